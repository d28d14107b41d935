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
	}
	os.Exit(m.Run())
}
