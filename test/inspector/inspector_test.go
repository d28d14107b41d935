package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestInspector(t *testing.T) {
	var file bytes.Buffer
	h := (&inspector{out: &file}).handler()
	do := func(method, body string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/events", strings.NewReader(body)))
		return w
	}
	for _, c := range []struct {
		method, body string
		code         int
	}{
		{"PUT", `[{"type":"a"},{"type":"b"}]`, 200},
		{"PUT", `{"event":{"type":"x"}}`, 500}, // as the sample inspector does
		{"POST", `{"event":{"type":"c"}}`, 200},
		{"POST", `{"events":[{"type":"d"}]}`, 200},
		{"POST", `{}`, 500},
		{"POST", `[`, 500},
		{"DELETE", ``, 405},
	} {
		if w := do(c.method, c.body); w.Code != c.code {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.body, w.Code, w.Body, c.code)
		}
	}
	var shown []record
	if w := do(http.MethodGet, ""); json.Unmarshal(w.Body.Bytes(), &shown) != nil || len(shown) != 4 {
		t.Errorf("%s", w.Body)
	}
	lines := strings.Split(strings.TrimSpace(file.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], `{"received":"`) || !strings.HasSuffix(lines[3], `"event":{"type":"d"}}`) {
		t.Errorf("%q", lines)
	}
}
