package main

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCommandLine(t *testing.T) {
	plan, err := parseCommandLine("console=ttyS0 quiet ledger.ip=10.78.0.201/24,,10.79.0.1/16 ledger.ip6=fd78::201/64 panic=-1\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(plan[0]) != 2 || len(plan[1]) != 0 || len(plan[2]) != 1 {
		t.Fatalf("plan: %v", plan)
	}
	if got := plan[0][0].IPNet.String() + " " + plan[0][1].IPNet.String() + " " + plan[2][0].IPNet.String(); got != "10.78.0.201/24 fd78::201/64 10.79.0.1/16" {
		t.Error(got)
	}
	if plan[0][1].Flags&unix.IFA_F_NODAD == 0 {
		t.Error("the IPv6 address would wait for duplicate address detection")
	}
}

func TestCommandLineErrorsNameTheWord(t *testing.T) {
	for _, word := range []string{"ledger.ip=10.0.0.1", "ledger.ip=x/24", "ledger.ip=fd78::1/64", "ledger.ip6=10.0.0.1/24", "ledger.ip=10.0.0.1/99", "ledger.ip=,,,,10.0.0.1/24"} {
		if _, err := parseCommandLine("quiet " + word); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
}
