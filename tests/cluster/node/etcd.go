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
	data := flag.String("data", "", "folder of the data")
	client := flag.String("client", "", "path of the socket for the API server")
	peer := flag.String("peer", "", "path of the socket for other members, of which there are none")
	flag.Parse()

	config := embed.NewConfig()
	config.Name = "linkspan"
	config.Dir = *data
	config.LogLevel = "warn"
	config.UnsafeNoFsync = true
	clients, peers := []url.URL{{Scheme: "unix", Path: *client}}, []url.URL{{Scheme: "unix", Path: *peer}}
	config.ListenClientUrls, config.AdvertiseClientUrls = clients, clients
	config.ListenPeerUrls, config.AdvertisePeerUrls = peers, peers
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
