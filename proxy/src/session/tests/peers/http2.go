// A server and a client of HTTP/2 made of Go's own library: `server PORT` says which requests it read, `client PORT` what
// became of its own.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
)

func main() {
	plain := new(http.Protocols)
	plain.SetUnencryptedHTTP2(true)
	address := "127.0.0.1:" + os.Args[2]
	if os.Args[1] == "server" {
		server := http.Server{Addr: address, Handler: http.HandlerFunc(answer), Protocols: plain}
		panic(server.ListenAndServe())
	}
	ask(&http.Client{Transport: &http.Transport{Protocols: plain}}, "http://"+address)
}

func answer(out http.ResponseWriter, request *http.Request) {
	fmt.Println("READ", request.Method, request.URL.Path)
	if size, ok := strings.CutPrefix(request.URL.Path, "/ok/big/"); ok {
		count, _ := strconv.Atoi(size)
		io.WriteString(out, strings.Repeat("x", count))
		return
	}
	out.Header().Set("Trailer", "X-End")
	if request.URL.Path == "/ok/last" {
		out.Header().Set("Connection", "close")
	}
	body, _ := io.ReadAll(request.Body)
	end := request.Trailer.Get("X-End")
	if end == "" {
		end = "-"
	}
	fmt.Fprintf(out, "%d %d %d", len(body), sum(body), len(request.Header.Get("X-Large")))
	out.Header().Set("X-End", end)
}

func sum(bytes []byte) (total int) {
	for _, one := range bytes {
		total += int(one)
	}
	return
}

type read struct {
	status int
	text   string
	end    string
}

func ask(client *http.Client, base string) {
	do := func(method, path, body, large string, trailer string) read {
		var content io.Reader
		if body != "" {
			content = strings.NewReader(body)
		}
		request, _ := http.NewRequest(method, base+path, content)
		if large != "" {
			request.Header.Set("X-Large", large)
		}
		if trailer != "" {
			request.ContentLength = -1
			request.Trailer = http.Header{"X-End": {trailer}}
		}
		response, err := client.Do(request)
		if err != nil {
			return read{0, err.Error(), "-"}
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return read{0, err.Error(), "-"}
		}
		end := response.Trailer.Get("X-End")
		if end == "" {
			end = "-"
		}
		return read{response.StatusCode, string(text), end}
	}
	say := func(what string, one read) {
		if one.status == 403 {
			var told struct{ Error string }
			json.Unmarshal([]byte(one.text), &told)
			one.text = "other"
			if told.Error == "denied by bulkhead" {
				one.text = "denied"
			}
		}
		if len(one.text) > 60 && one.status != 0 {
			one.text = strconv.Itoa(len(one.text))
		}
		fmt.Println(what, one.status, one.text, one.end)
	}
	say("get", do("GET", "/ok/1", "", "", ""))
	say("denied", do("GET", "/no/1", "", "", ""))
	var wait sync.WaitGroup
	var statuses [30]int
	for at := range statuses {
		wait.Add(1)
		go func() {
			defer wait.Done()
			path := "/ok/"
			if at%3 == 0 {
				path = "/no/"
			}
			statuses[at] = do("GET", path+strconv.Itoa(at), "", "", "").status
		}()
	}
	wait.Wait()
	counts := map[int]int{}
	for _, status := range statuses {
		counts[status]++
	}
	fmt.Println("mixed", counts[200], counts[403])
	body := strings.Repeat("y", 10<<20)
	say("upload", do("POST", "/ok/up", body, "", ""))
	say("download", do("GET", "/ok/big/10485760", "", "", ""))
	say("denied upload", do("POST", "/no/up", body[:1<<20], "", ""))
	say("large", do("GET", "/ok/large", "", strings.Repeat("z", 12000), ""))
	say("trailers", do("POST", "/ok/trailers", "body", "", "end"))
	say("last", do("GET", "/ok/last", "", "", ""))
	// The server has gone away: the client goes on with another connection.
	if do("GET", "/ok/again", "", "", "").status == 200 {
		fmt.Println("gone away")
	}
}
