// Makes raw LLB for make.sh, and lists the op digests of a cache.db. Needs the modules
// github.com/moby/buildkit v0.32.2 and go.etcd.io/bbolt v1.5.0.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/moby/buildkit/client/llb"
	bolt "go.etcd.io/bbolt"
)

// links DB prints every distinct op digest on the links of a cache.db.
// llb prints a definition for buildctl build on stdout, with every op there is.
// steps prints one that needs nothing but the local directories first and second.
func main() {
	switch os.Args[1] {
	case "links":
		links(os.Args[2])
	case "llb":
		definition()
	case "steps":
		steps()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func links(path string) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	check(err)
	seen := map[string]bool{}
	check(db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("_links")).ForEachBucket(func(k []byte) error {
			return tx.Bucket([]byte("_links")).Bucket(k).ForEach(func(link, _ []byte) error {
				text := string(link[:strings.LastIndex(string(link), "@")])
				var l struct {
					Output int
					Digest string
				}
				check(json.Unmarshal([]byte(text), &l))
				seen[fmt.Sprintf("%s@%d", l.Digest, l.Output)] = true
				return nil
			})
		})
	}))
	var all []string
	for k := range seen {
		all = append(all, k)
	}
	slices.Sort(all)
	for _, k := range all {
		fmt.Println(k)
	}
}

func definition() {
	bb := llb.Local("bb")
	base := llb.Scratch().File(llb.Copy(bb, "/", "/", &llb.CopyInfo{CopyDirContentsOnly: true}))
	at := time.Unix(1700000000, 123456789)
	second := time.Unix(1700000000, 0)
	files := base.
		File(llb.Mkdir("/a", 0o755, llb.WithParents(true), llb.WithUIDGID(1, 0)).
			Mkfile("/a/file", 0o600, []byte("data <&>\n"), llb.WithUser("joe"), llb.WithCreatedTime(at)).
			Rm("/bin/nothing", llb.WithAllowNotFound(true)).
			Rm("/bin/[x]*", llb.WithAllowWildcard(true), llb.WithAllowNotFound(true))).
		File(llb.Mkdir("/none", 0o700)).
		File(llb.Copy(base, "/bin/busybox", "/copy/", &llb.CopyInfo{
			CreateDestPath: true, FollowSymlinks: true, AllowEmptyWildcard: true, AllowWildcard: true,
			AlwaysReplaceExistingDestPaths: true, IncludePatterns: []string{"b*"}, ExcludePatterns: []string{"z"},
			CreatedTime: &second, ChownOpt: &llb.ChownOpt{User: &llb.UserOpt{Name: "joe"}, Group: &llb.UserOpt{UID: 0}},
		}).Copy(base, "/etc/", "/copy2", &llb.CopyInfo{CopyDirContentsOnly: true, CreateDestPath: true}))
	inner := llb.Mkdir("/made", 0o755).Mkfile("/made/x", 0o644, nil)
	files = files.File(llb.Copy(inner.WithState(llb.Scratch()), "/made/x", "/from-action"))
	link := files.File(llb.Symlink("/a", "/symlink"))
	run := files.Run(llb.Args([]string{"/bin/sh", "-c", "echo x > /out1/x; echo y > /out2/y; exit 3"}),
		llb.AddEnv("PATH", "/bin"), llb.ValidExitCodes(0, 3), llb.Hostname("h<o>st"), llb.AddExtraHost("db", []byte{10, 0, 0, 1}),
		llb.AddUlimit(llb.UlimitNofile, 1024, 2048), llb.WithCgroupParent("cg"), llb.ReadonlyRootFS())
	out1 := run.AddMount("/out1", llb.Scratch())
	out2 := run.AddMount("/out2", base, llb.SourcePath("/bin"))
	run.AddMount("/ro", base, llb.Readonly, llb.SourcePath("/etc"))
	run.AddMount("/forced", base, llb.ForceNoOutput, llb.ContentCache(llb.MountContentCacheOff))
	run.AddMount("/pcache", llb.Scratch(), llb.AsPersistentCacheDir("/x//pcache", llb.CacheMountPrivate))
	merged := llb.Merge([]llb.State{base, llb.Diff(base, files), out1, out2, link})
	diffScratch := llb.Diff(llb.Scratch(), out1)
	pass := llb.NewPassthroughOp("p<a>ss", []llb.PassthroughInput{{State: out1}, {State: out2, Output: true}, {State: base, Output: true}})
	passed := llb.NewState(pass.OutputAt(1))
	all := llb.Merge([]llb.State{merged, diffScratch, passed, llb.Diff(merged, llb.Scratch())})
	def, err := all.Marshal(context.TODO(), llb.LinuxAmd64)
	check(err)
	check(llb.WriteTo(def, os.Stdout))
}

// What provenance does not tell of steps is in here: a symbolic link, a time that is not in whole seconds.
func steps() {
	at := time.Unix(1700000000, 123456789)
	base := llb.Scratch().File(llb.Copy(llb.Local("first"), "/", "/", &llb.CopyInfo{CopyDirContentsOnly: true}))
	linked := base.File(llb.Symlink("/a", "/link"))
	timed := linked.File(llb.Mkdir("/made", 0o750).Mkfile("/made/timed", 0o600, []byte("timed\n"), llb.WithCreatedTime(at)))
	copied := timed.File(llb.Copy(llb.Local("second"), "/b", "/b")).File(llb.Rm("/a"))
	def, err := copied.Marshal(context.TODO(), llb.LinuxAmd64)
	check(err)
	check(llb.WriteTo(def, os.Stdout))
}
