package loadtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// ErrRemote reports an address that is not on this machine, without leave to
// load others.
var ErrRemote = errors.New("not an address of this machine")

// ErrUnreachable reports that nothing answers at the address.
var ErrUnreachable = errors.New("no server there")

// address is where requests go, resolved once.
type address struct {
	host   string // of the Host header
	dial   string // ip:port
	secure *tls.Config
}

// resolve reads an address such as http://127.0.0.1:8080 or 127.0.0.1:8080.
// Unless remote is true, every address that its name stands for must be a
// loopback one.
func resolve(ctx context.Context, text string, remote bool) (address, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return address{}, err
	}
	if u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return address{}, fmt.Errorf("address %q: want http://HOST:PORT", text)
	}
	a := address{host: u.Host}
	port := u.Port()
	switch u.Scheme {
	case "http":
		if port == "" {
			port = "80"
		}
	case "https":
		if port == "" {
			port = "443"
		}
		a.secure = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
	default:
		return address{}, fmt.Errorf("address %q: scheme %q is not http or https", text, u.Scheme)
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, u.Hostname())
	if err != nil {
		return address{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	for _, ip := range ips {
		if !remote && !ip.IP.IsLoopback() {
			return address{}, fmt.Errorf("%w: %s is %s", ErrRemote, u.Hostname(), ip.IP)
		}
	}
	a.dial = net.JoinHostPort(ips[0].String(), port)
	return a, nil
}

// connect opens one connection within the limit.
func (a *address) connect(ctx context.Context, limit time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var d net.Dialer
	if a.secure == nil {
		return d.DialContext(ctx, "tcp", a.dial)
	}
	t := tls.Dialer{NetDialer: &d, Config: a.secure}
	return t.DialContext(ctx, "tcp", a.dial)
}
