package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func try(t *testing.T, target string, limit time.Duration) error {
	t.Helper()
	p, err := Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return p.Try(ctx)
}

// TestTCP: a listener answers, whether anybody accepts or not; a closed port does not.
func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	target := "tcp://" + l.Addr().String()
	if err := try(t, target, time.Minute); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := try(t, target, time.Minute); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port: %v", err)
	}
}

func TestHTTP(t *testing.T) {
	quiet := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/busy", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusServiceUnavailable) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/busy", http.StatusFound) })
	mux.HandleFunc("/hangs", func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-quiet:
		}
	})
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(quiet)
	for path, want := range map[string]string{"/ready": "", "/moved": "", "/busy": "503 Service Unavailable", "/none": "404"} {
		err := try(t, s.URL+path, time.Minute)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := try(t, s.URL+"/hangs", 50*time.Millisecond); err == nil {
		t.Error("no answer, and that is fine")
	}
}

func TestParse(t *testing.T) {
	for _, good := range []string{"tcp://10.0.0.5:80", "tcp://[fd00::5]:80", "http://web1", "http://10.0.0.5:8080/ready?full=1"} {
		if p, err := Parse(good); err != nil || p.String() != good {
			t.Errorf("%s: %s, %v", good, p, err)
		}
	}
	for _, bad := range []string{"10.0.0.5:80", "icmp://10.0.0.5", "https://10.0.0.5", "tcp://10.0.0.5", "tcp://:80", "tcp://10.0.0.5:80/x", "http://", "http://a:b@10.0.0.5/", "tcp://10.0.0.5:http\x00"} {
		if p, err := Parse(bad); err == nil {
			t.Errorf("%s is %s", bad, p)
		}
	}
}
