package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/spf13/cobra"

	"tact/server/client"
)

// defaultAddress is where a server listens unless it is told otherwise.
const defaultAddress = "127.0.0.1:8080"

// remote says which server to talk to, and with which key.
type remote struct {
	address, key, data string
}

func (r *remote) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.address, "address", "",
		"address of the server (default $TACT_ADDRESS, else "+defaultAddress+")")
	f.StringVar(&r.key, "key", "", "admin key (default $TACT_ADMIN_KEY)")
	f.StringVar(&r.data, "data", "", "data folder of the server, whose "+keyFile+" holds the key")
}

// client makes the client of the server that flags and environment name.
func (r *remote) client() (*client.Client, error) {
	key := cmp.Or(r.key, os.Getenv(keyVariable))
	if key == "" && r.data != "" {
		var err error
		if key, err = readKey(r.data); err != nil {
			return nil, err
		}
	}
	if key == "" {
		return nil, &exitError{exitUsage, fmt.Errorf(
			"no admin key: give --key, $%s, or --data with the server's data folder", keyVariable)}
	}
	address := cmp.Or(r.address, os.Getenv("TACT_ADDRESS"), defaultAddress)
	return client.New(address, key), nil
}

// remoteError gives an error of a call its exit code.
func remoteError(ctx context.Context, err error) error {
	var answered *client.Error
	var network net.Error
	var file *fs.PathError // its cause is a network's error by its methods alone
	switch {
	case err == nil, ctx.Err() != nil, errors.As(err, &answered), errors.As(err, &file):
		return err
	case errors.As(err, &network):
		return &exitError{exitUnreachable, err}
	}
	return err
}
