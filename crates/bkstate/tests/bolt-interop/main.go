// Command bolt-interop lets the tests of the bolt module compare notes with Go's bbolt.
//
//	bolt-interop apply [-page-size N] [-no-freelist-sync] FILE < OPS
//	bolt-interop hash FILE
//	bolt-interop check FILE
//
// "apply" opens or creates FILE and runs the operations on standard input, one on a line; keys are
// hexadecimal:
//
//	enter KEY             create the bucket if it is not there, and go into it
//	leave                 go back to the bucket around it
//	sequence NUMBER       set the sequence of the current bucket
//	put KEY BYTE LENGTH   store LENGTH times BYTE
//	delete KEY            delete a value
//	drop KEY              delete a bucket
//	commit                end the transaction; the next operation starts in the root bucket
//
// "hash" prints the SHA-256 of the content: per bucket its sequence, then for each key a tag, the
// key and the value or bucket, then an end tag. "check" prints what bbolt's own check finds.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	bolt "go.etcd.io/bbolt"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bolt-interop:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: bolt-interop apply|hash|check FILE")
	}
	switch args[0] {
	case "apply":
		flags := flag.NewFlagSet("apply", flag.ContinueOnError)
		pageSize := flags.Int("page-size", 4096, "page size of a new file")
		noFreelistSync := flags.Bool("no-freelist-sync", false, "do not write the freelist")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		// Nothing here has to survive a power failure.
		options := &bolt.Options{PageSize: *pageSize, NoFreelistSync: *noFreelistSync, NoSync: true}
		db, err := bolt.Open(flags.Arg(0), 0o644, options)
		if err != nil {
			return err
		}
		if err := apply(db, os.Stdin); err != nil {
			return err
		}
		return db.Close()
	case "hash":
		return view(args[1], func(tx *bolt.Tx) error {
			hash := sha256.New()
			if err := write(hash, tx.Cursor().Bucket()); err != nil {
				return err
			}
			fmt.Printf("%x\n", hash.Sum(nil))
			return nil
		})
	case "check":
		return view(args[1], func(tx *bolt.Tx) error {
			var problems []string
			for problem := range tx.Check() {
				problems = append(problems, problem.Error())
			}
			if len(problems) > 0 {
				return fmt.Errorf("%s", strings.Join(problems, "\n"))
			}
			return nil
		})
	}
	return fmt.Errorf("unknown command %q", args[0])
}

func view(path string, fn func(*bolt.Tx) error) error {
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(fn)
}

func apply(db *bolt.DB, input io.Reader) error {
	tx, err := db.Begin(true)
	if err != nil {
		return err
	}
	path := []*bolt.Bucket{tx.Cursor().Bucket()}
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		op := strings.Fields(lines.Text())
		current := path[len(path)-1]
		var err error
		switch op[0] {
		case "enter":
			var bucket *bolt.Bucket
			bucket, err = current.CreateBucketIfNotExists(key(op))
			path = append(path, bucket)
		case "leave":
			path = path[:len(path)-1]
		case "sequence":
			var sequence uint64
			if sequence, err = strconv.ParseUint(op[1], 10, 64); err == nil {
				err = current.SetSequence(sequence)
			}
		case "put":
			var value, length int
			if value, err = strconv.Atoi(op[2]); err == nil {
				if length, err = strconv.Atoi(op[3]); err == nil {
					err = current.Put(key(op), bytes.Repeat([]byte{byte(value)}, length))
				}
			}
		case "delete":
			err = current.Delete(key(op))
		case "drop":
			err = current.DeleteBucket(key(op))
		case "commit":
			if err := tx.Commit(); err != nil {
				return err
			}
			if tx, err = db.Begin(true); err != nil {
				return err
			}
			path = []*bolt.Bucket{tx.Cursor().Bucket()}
		default:
			err = fmt.Errorf("unknown operation")
		}
		if err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return tx.Rollback()
}

func key(op []string) []byte {
	key, err := hex.DecodeString(op[1])
	if err != nil {
		panic(err)
	}
	return key
}

func write(out io.Writer, bucket *bolt.Bucket) error {
	binary.Write(out, binary.LittleEndian, bucket.Sequence())
	err := bucket.ForEach(func(key, value []byte) error {
		inner := bucket.Bucket(key)
		tag := byte('v')
		if inner != nil {
			tag = 'b'
		}
		out.Write([]byte{tag})
		binary.Write(out, binary.LittleEndian, uint32(len(key)))
		out.Write(key)
		if inner != nil {
			return write(out, inner)
		}
		binary.Write(out, binary.LittleEndian, uint32(len(value)))
		out.Write(value)
		return nil
	})
	out.Write([]byte{'e'})
	return err
}
