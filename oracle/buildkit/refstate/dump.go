package main

import (
	"encoding/hex"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"
)

// bucket mirrors a bbolt bucket. Names, keys and values that are not UTF-8 are shown as 0x and hex.
type bucket struct {
	Buckets  map[string]*bucket `json:"buckets,omitempty"`
	Keys     map[string]string  `json:"keys,omitempty"`
	Sequence uint64             `json:"sequence,omitempty"`
}

func dump(path string) (*bucket, error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	root := &bucket{Buckets: map[string]*bucket{}}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			child, err := dumpBucket(b)
			root.Buckets[text(name)] = child
			return err
		})
	})
	return root, err
}

func dumpBucket(b *bbolt.Bucket) (*bucket, error) {
	out := &bucket{Buckets: map[string]*bucket{}, Keys: map[string]string{}, Sequence: b.Sequence()}
	err := b.ForEach(func(k, v []byte) error {
		if v != nil {
			out.Keys[text(k)] = text(v)
			return nil
		}
		child, err := dumpBucket(b.Bucket(k))
		out.Buckets[text(k)] = child
		return err
	})
	return out, err
}

func text(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	return "0x" + hex.EncodeToString(b)
}
