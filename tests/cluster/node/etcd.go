package main

import (
	"flag"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

// store is etcd with one member, reached through a socket that only this user may open. It syncs nothing to
// the disk: it survives the death of its process, not of the machine, and neither does a cluster for tests.
func store() {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	data := flags.String("data", "", "folder of the data")
	client := flags.String("client", "", "path of the socket for the API server")
	peer := flags.String("peer", "", "path of the socket for other members, of which there are none")
	flags.Parse(os.Args[1:]) //nolint:errcheck // it exits

	config := embed.NewConfig()
	config.Name = "linkspan"
	config.Dir = *data
	config.LogLevel = "warn"
	config.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	config.UnsafeNoFsync = true
	config.ListenClientUrls = []url.URL{{Scheme: "unix", Path: *client}}
	config.ListenPeerUrls = []url.URL{{Scheme: "unix", Path: *peer}}
	// These have to name a port; nobody listens there and nobody calls.
	config.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}
	config.AdvertisePeerUrls = config.AdvertiseClientUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		fail(err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-stop:
		etcd.Close()
	case err := <-etcd.Err():
		fail(err)
	}
}
