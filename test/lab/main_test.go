package lab

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	Init()
	switch os.Getenv(roleVariable) {
	case "echo":
		echo()
	case "owner":
		own()
	case "both":
		both()
	}
	os.Exit(m.Run())
}
