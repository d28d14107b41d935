// Command listen runs on a host with a kernel of its own and tells package commit what
// guests emit there.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/hamgr/hamgr/test/commit"
)

func main() {
	host := flag.String("host", "", "name of this host")
	trace := flag.String("trace", "", "where hamgr traces")
	flag.Parse()
	if err := commit.Listen(*host, *trace, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "listen:", err)
		os.Exit(1)
	}
}
