package alarm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
)

// Dialect makes the request that tells an inspector at url (without a slash at its end)
// of one alarm.
type Dialect func(url string, a Alarm) (*http.Request, error)

// Doctor is what the sample inspector of OPNFV Doctor takes: PUT, a bare list.
func Doctor(url string, a Alarm) (*http.Request, error) {
	return request(http.MethodPut, url+"/events", []Alarm{a})
}

// Southbound is Doctor's southbound specification: POST, {"event": {...}}.
func Southbound(url string, a Alarm) (*http.Request, error) {
	return request(http.MethodPost, url+"/events", map[string]Alarm{"event": a})
}

func request(method, url string, body any) (*http.Request, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("alarm: %w", err)
	}
	r, err := http.NewRequest(method, url, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("alarm: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	return r, nil
}
