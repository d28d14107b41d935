// Command ledger is the guest's only program: init and server in one. Each request
// appends to a hash chain in memory, so that a client sees any rollback or loss.
//
// Protocol (TCP and UDP port 7000), a line each way:
//
//	request:  <client> <number> <text>
//	reply:    <number> <sequence> <hash>
//
// with hash = SHA-256(previous hash, request line without its newline), in hex.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
)

// ledger is the chain.
type ledger struct {
	mu       sync.Mutex // guards both
	sequence uint64
	hash     [sha256.Size]byte
}

// append adds one request and returns the reply.
func (l *ledger) append(line string) (string, error) {
	parts := strings.SplitN(line, " ", 3)
	if len(parts) < 2 {
		return "", fmt.Errorf("want: client number text, got %q", line)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence++
	l.hash = sha256.Sum256(append(l.hash[:], line...))
	return fmt.Sprintf("%s %d %s\n", parts[1], l.sequence, hex.EncodeToString(l.hash[:])), nil
}

func main() {
	if os.Getpid() == 1 {
		if err := boot(); err != nil {
			log.Println("boot:", err)
		}
	}
	l := &ledger{}
	go serveUDP(l, ":7000")
	go serveHTTP(l, ":7080")
	log.Fatal(serveTCP(l, ":7000"))
}

func serveTCP(l *ledger, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	log.Println("ledger: ready")
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serveConn(l, c)
	}
}

func serveConn(l *ledger, c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		reply, err := l.append(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return
		}
		if _, err := c.Write([]byte(reply)); err != nil {
			return
		}
	}
}

func serveUDP(l *ledger, addr string) {
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		log.Println(err)
		return
	}
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply, err := l.append(strings.TrimSpace(string(buf[:n]))); err == nil {
			c.WriteTo([]byte(reply), from)
		}
	}
}

func serveHTTP(l *ledger, addr string) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /append", func(w http.ResponseWriter, r *http.Request) {
		reply, err := l.append("http 0 " + r.URL.Query().Get("text"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, reply)
	})
	m := &memory{}
	mux.HandleFunc("POST /dirty", m.dirty)
	mux.HandleFunc("GET /checksum", m.checksum)
	log.Println(http.ListenAndServe(addr, mux))
}
