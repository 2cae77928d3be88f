// Package loop keeps a number of callers busy for a while, and says in JSON what came of it.
package loop

import (
	"context"
	"encoding/json"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	warmUp       = 500 * time.Millisecond
	afterAnError = 10 * time.Millisecond
)

// Operation asks for one thing on behalf of a caller.
type Operation func(ctx context.Context, caller int) error

type result struct {
	Count   int     `json:"count"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Longest float64 `json:"longest"`
	CPU     float64 `json:"cpu"`
	Errors  int64   `json:"errors"`
}

// Tell writes one line of JSON to whoever has started this process.
func Tell(what interface{}) {
	if err := json.NewEncoder(os.Stdout).Encode(what); err != nil {
		os.Exit(1)
	}
}

// Started says that from now on everything counts.
func Started() { Tell(map[string]bool{"started": true}) }

// Run has so many callers ask again and again, and tells what came of it.
func Run(inFlight int, seconds float64, ask Operation) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var counts int32
	var errors int64
	var callers sync.WaitGroup
	took := make([][]float64, inFlight)
	for number := 0; number < inFlight; number++ {
		callers.Add(1)
		go func(number int) {
			defer callers.Done()
			for ctx.Err() == nil {
				began := time.Now()
				err := ask(ctx, number)
				counted := atomic.LoadInt32(&counts) == 1
				switch {
				case err == nil && counted:
					took[number] = append(took[number], time.Since(began).Seconds()*1000)
				case err != nil && ctx.Err() == nil:
					if counted {
						atomic.AddInt64(&errors, 1)
					}
					time.Sleep(afterAnError)
				}
			}
		}(number)
	}
	length := time.Duration(seconds * float64(time.Second))
	if warmUp < length {
		time.Sleep(warmUp)
	} else {
		time.Sleep(length)
	}
	used, began := cpu(), time.Now()
	atomic.StoreInt32(&counts, 1)
	Started()
	time.Sleep(length)
	atomic.StoreInt32(&counts, 0)
	told := result{Seconds: time.Since(began).Seconds(), CPU: cpu() - used, Errors: errors}
	cancel()
	callers.Wait()
	var all []float64
	for _, some := range took {
		all = append(all, some...)
	}
	sort.Float64s(all)
	if told.Count = len(all); told.Count > 0 {
		told.P50 = all[told.Count*50/100]
		told.P99 = all[told.Count*99/100]
		told.Longest = all[told.Count-1]
	}
	Tell(told)
}

func cpu() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return seconds(used.Utime) + seconds(used.Stime)
}

func seconds(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
