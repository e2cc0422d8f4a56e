// s3mirror copies the objects of a bucket into a directory, each to the file that its key names, as
// `aws s3 sync` does: s3mirror ENDPOINT BUCKET DIR. The server must not ask for credentials.
package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
)

// listing is a page of the answer to ListObjectsV2.
type listing struct {
	Contents []struct {
		Key string
	}
	IsTruncated           bool
	NextContinuationToken string
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: s3mirror ENDPOINT BUCKET DIR")
		os.Exit(2)
	}
	if err := mirror(os.Args[1]+"/"+os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "s3mirror:", err)
		os.Exit(1)
	}
}

func mirror(bucket, dir string) error {
	token := ""
	for {
		query := url.Values{"list-type": {"2"}}
		if token != "" {
			query.Set("continuation-token", token)
		}
		var page listing
		err := get(bucket+"?"+query.Encode(), func(body io.Reader) error {
			return xml.NewDecoder(body).Decode(&page)
		})
		if err != nil {
			return err
		}
		for _, object := range page.Contents {
			if err := copyObject(bucket, object.Key, dir); err != nil {
				return err
			}
		}
		if !page.IsTruncated {
			return nil
		}
		token = page.NextContinuationToken
	}
}

func copyObject(bucket, key, dir string) error {
	if !filepath.IsLocal(key) {
		return fmt.Errorf("the key %q is not a path below the directory", key)
	}
	path := filepath.Join(dir, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	object := (&url.URL{Path: key}).EscapedPath()
	return get(bucket+"/"+object, func(body io.Reader) error {
		_, err := io.Copy(file, body)
		return err
	})
}

func get(address string, use func(io.Reader) error) error {
	response, err := http.Get(address)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", address, response.Status)
	}
	return use(response.Body)
}
