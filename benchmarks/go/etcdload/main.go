// Command etcdload puts a load on an etcd cluster, as its only argument, a JSON object, says.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand"
	"os"
	"strings"
	"time"

	"../loop"
	"go.etcd.io/etcd/clientv3"
)

const (
	keyCount = 10000
	filling  = 256
)

type order struct {
	What      string   `json:"what"` // put, linearizable, serializable, fill, failover
	Endpoints []string `json:"endpoints"`
	InFlight  int      `json:"in_flight"`
	Seconds   float64  `json:"seconds"`
	Value     int      `json:"value"`
	Clients   int      `json:"clients"`
}

func main() {
	var given order
	if err := json.Unmarshal([]byte(os.Args[1]), &given); err != nil {
		log.Fatal(err)
	}
	value := strings.Repeat("v", given.Value)
	if given.What == "failover" {
		failover(given.Endpoints, value)
		return
	}
	clients := make([]*clientv3.Client, given.Clients)
	for number := range clients {
		clients[number] = dial(given.Endpoints[number%len(given.Endpoints)])
	}
	if given.What == "fill" {
		fill(clients[0], value)
		return
	}
	chances := make([]*rand.Rand, given.InFlight)
	for number := range chances {
		chances[number] = rand.New(rand.NewSource(int64(number)))
	}
	loop.Run(given.InFlight, given.Seconds, func(ctx context.Context, caller int) error {
		client := clients[caller%len(clients)]
		key := keyOf(chances[caller].Intn(keyCount))
		var err error
		switch given.What {
		case "put":
			_, err = client.Put(ctx, key, value)
		case "linearizable":
			_, err = client.Get(ctx, key)
		case "serializable":
			_, err = client.Get(ctx, key, clientv3.WithSerializable())
		default:
			log.Fatalf("nothing to measure is called %q", given.What)
		}
		return err
	})
}

func keyOf(number int) string { return fmt.Sprintf("key-%012d", number) }

func dial(endpoint string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialTimeout: 5 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	return client
}

// fill puts something under every key.
func fill(client *clientv3.Client, value string) {
	numbers, done := make(chan int), make(chan bool)
	for i := 0; i < filling; i++ {
		go func() {
			for number := range numbers {
				if _, err := client.Put(context.Background(), keyOf(number), value); err != nil {
					log.Fatal(err)
				}
			}
			done <- true
		}()
	}
	for number := 0; number < keyCount; number++ {
		numbers <- number
	}
	close(numbers)
	for i := 0; i < filling; i++ {
		<-done
	}
	loop.Tell(map[string]bool{"filled": true})
}

// failover asks each of the survivors again and again, from when it is told to, until one of them
// has done a put.
func failover(endpoints []string, value string) {
	clients := make([]*clientv3.Client, len(endpoints))
	for number, endpoint := range endpoints {
		clients[number] = dial(endpoint)
		if _, err := clients[number].Put(context.Background(), "failover", value); err != nil {
			log.Fatal(err)
		}
	}
	loop.Started()
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return
	}
	done := make(chan bool, len(clients))
	for {
		for _, client := range clients {
			go func(client *clientv3.Client) {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				if _, err := client.Put(ctx, "failover", value); err == nil {
					select {
					case done <- true:
					default:
					}
				}
			}(client)
		}
		select {
		case <-done:
			loop.Tell(map[string]bool{"done": true})
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}
