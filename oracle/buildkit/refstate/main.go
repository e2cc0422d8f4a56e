// Command refstate shows what the reference implementations make of a cache export and of a state.
//
//	refstate apply LAYOUT ROOT   extracts every layer chain of the cache exports in an OCI layout with
//	                             containerd's overlay snapshotter and applier, the code buildkitd runs,
//	                             into ROOT, and prints {"<chainID>": {"fs", "inodes", "size"}} as JSON
//	refstate layers              applies single layers with containerd's applier: reads a JSON object
//	                             {"blob", "fs", "lowers"} for each and prints {} or {"error"}
//	refstate dump FILE           prints a bbolt database as JSON
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "refstate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var (
		result any
		err    error
	)
	switch {
	case len(args) == 3 && args[0] == "apply":
		result, err = applyLayout(context.Background(), args[1], args[2])
	case len(args) == 1 && args[0] == "layers":
		return applyLayers(context.Background(), os.Stdin, os.Stdout)
	case len(args) == 2 && args[0] == "dump":
		result, err = dump(args[1])
	default:
		err = fmt.Errorf("usage: refstate apply LAYOUT ROOT | refstate layers | refstate dump FILE")
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
