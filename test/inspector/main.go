// Command inspector takes OPNFV Doctor's events (PUT /events, a JSON list) and writes a
// line of JSON for each: when it came, and the event.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"
	"time"
)

func main() {
	out, err := os.OpenFile(os.Args[1], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		log.Fatal(err)
	}
	var mu sync.Mutex
	http.HandleFunc("PUT /events", func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		var list []json.RawMessage
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&list); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, e := range list {
			json.NewEncoder(out).Encode(map[string]any{"received": now, "event": e})
		}
		w.Write([]byte("OK"))
	})
	log.Fatal(http.ListenAndServe(":12345", nil))
}
