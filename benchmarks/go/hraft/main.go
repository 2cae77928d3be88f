// Command hraft is a server of hashicorp/raft with raft-boltdb that keeps a map of strings.  Its
// only argument is a JSON object; it takes orders as lines of JSON, and ends when these do.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/ioutil"
	"log"
	"math/rand"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"../loop"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb"
)

const (
	keyCount = 10000
	patience = 5 * time.Second
)

type given struct {
	Name      string            `json:"name"`
	Directory string            `json:"directory"`
	Cluster   map[string]string `json:"cluster"`
}

type order struct {
	Order    string  `json:"order"` // status, load, wait
	InFlight int     `json:"in_flight"`
	Seconds  float64 `json:"seconds"`
	Value    int     `json:"value"`
}

func main() {
	var arguments given
	check(json.Unmarshal([]byte(os.Args[1]), &arguments))
	node := start(arguments)
	loop.Tell(map[string]string{"listens": arguments.Cluster[arguments.Name]})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var told order
		check(json.Unmarshal(lines.Bytes(), &told))
		switch told.Order {
		case "load":
			load(node, told)
		case "wait":
			wait(node)
		default:
			loop.Tell(status(node, arguments.Cluster))
		}
	}
}

func start(arguments given) *raft.Raft {
	check(os.MkdirAll(arguments.Directory, 0o755))
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(arguments.Name)
	config.LogOutput = ioutil.Discard
	config.LogLevel = "ERROR"
	logs, err := raftboltdb.NewBoltStore(filepath.Join(arguments.Directory, "log"))
	check(err)
	snapshots, err := raft.NewFileSnapshotStore(arguments.Directory, 1, ioutil.Discard)
	check(err)
	own := arguments.Cluster[arguments.Name]
	transport, err := raft.NewTCPTransport(own, nil, 3, 10*time.Second, ioutil.Discard)
	check(err)
	known, err := raft.HasExistingState(logs, logs, snapshots)
	check(err)
	if !known {
		var members raft.Configuration
		for name, address := range arguments.Cluster {
			members.Servers = append(members.Servers, raft.Server{
				ID:      raft.ServerID(name),
				Address: raft.ServerAddress(address),
			})
		}
		check(raft.BootstrapCluster(config, logs, logs, snapshots, transport, members))
	}
	values := &machine{values: map[string]string{}}
	node, err := raft.NewRaft(config, values, logs, logs, snapshots, transport)
	check(err)
	return node
}

func status(node *raft.Raft, cluster map[string]string) map[string]interface{} {
	leader, address := "", string(node.Leader())
	for name, known := range cluster {
		if known == address {
			leader = name
		}
	}
	term, err := strconv.ParseUint(node.Stats()["term"], 10, 64)
	check(err)
	return map[string]interface{}{
		"leads": node.State() == raft.Leader, "leader": leader, "term": term,
		"applied": node.AppliedIndex(),
	}
}

func load(node *raft.Raft, told order) {
	value := strings.Repeat("v", told.Value)
	chances := make([]*rand.Rand, told.InFlight)
	for number := range chances {
		chances[number] = rand.New(rand.NewSource(int64(number)))
	}
	loop.Run(told.InFlight, told.Seconds, func(_ context.Context, caller int) error {
		return put(node, fmt.Sprintf("key-%012d", chances[caller].Intn(keyCount)), value)
	})
}

// wait tells when a command is done here, which takes a leader.
func wait(node *raft.Raft) {
	for node.State() != raft.Leader || put(node, "failover", "after") != nil {
		time.Sleep(time.Millisecond)
	}
	loop.Tell(map[string]bool{"done": true})
}

func put(node *raft.Raft, key, value string) error {
	command := make([]byte, 2, 2+len(key)+len(value))
	binary.BigEndian.PutUint16(command, uint16(len(key)))
	return node.Apply(append(append(command, key...), value...), patience).Error()
}

// machine is a map; it comes to the value before, as the other systems' do.
type machine struct {
	mutex  sync.Mutex
	values map[string]string
}

func (m *machine) Apply(entry *raft.Log) interface{} {
	if len(entry.Data) < 2 {
		return errors.New("no command")
	}
	end := 2 + binary.BigEndian.Uint16(entry.Data)
	key := string(entry.Data[2:end])
	m.mutex.Lock()
	defer m.mutex.Unlock()
	before := m.values[key]
	m.values[key] = string(entry.Data[end:])
	return before
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	state, err := json.Marshal(m.values)
	return saved(state), err
}

func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	values := map[string]string{}
	if err := json.NewDecoder(from).Decode(&values); err != nil {
		return err
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.values = values
	return nil
}

type saved []byte

func (state saved) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(state); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

func (saved) Release() {}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
