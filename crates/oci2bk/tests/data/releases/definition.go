// Writes the LLB definition for encode.go to stdout. Needs github.com/moby/buildkit v0.32.2.
package main

import (
	"context"
	"os"
	"time"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	bb := llb.Local("bb")
	base := llb.Scratch().File(llb.Copy(bb, "/", "/", &llb.CopyInfo{CopyDirContentsOnly: true}))
	at := time.Unix(1700000000, 123456789)
	files := base.
		File(llb.Mkdir("/a", 0o755, llb.WithParents(true), llb.WithUIDGID(1, 0)).
			Mkfile("/a/file", 0o600, []byte("data <&>\n"), llb.WithUser("joe"), llb.WithCreatedTime(at)).
			Rm("/bin/nothing", llb.WithAllowNotFound(true))).
		File(llb.Copy(base, "/bin/busybox", "/copy/", &llb.CopyInfo{
			CreateDestPath: true, FollowSymlinks: true, IncludePatterns: []string{"b*"}, ExcludePatterns: []string{"z"},
			ChownOpt: &llb.ChownOpt{User: &llb.UserOpt{Name: "joe"}, Group: &llb.UserOpt{UID: 0}},
		}).Copy(base, "/etc/", "/copy2", &llb.CopyInfo{ChownOpt: &llb.ChownOpt{User: &llb.UserOpt{UID: 1000}}}))
	inner := llb.Mkdir("/made", 0o755)
	files = files.File(llb.Copy(inner.WithState(llb.Scratch()), "/made", "/from-action"))
	run := files.Run(llb.Args([]string{"/bin/sh", "-c", "echo \b\f <x> & > /out1/x"}), llb.Hostname("h"),
		llb.AddExtraHost("db", []byte{10, 0, 0, 1}), llb.AddUlimit(llb.UlimitNofile, 1024, 2048),
		llb.AddSecret("/s", llb.SecretID("id"), llb.SecretFileOpt(1, 2, 0o400)), llb.AddSSHSocket())
	out1 := run.AddMount("/out1", llb.Scratch())
	out2 := run.AddMount("/out2", base, llb.SourcePath("/bin"))
	run.AddMount("/t", llb.Scratch(), llb.Tmpfs(llb.TmpfsSize(5)))
	run.AddMount("/pcache", llb.Scratch(), llb.AsPersistentCacheDir("/x//pcache", llb.CacheMountPrivate))
	all := llb.Merge([]llb.State{base, llb.Diff(base, files), out1, out2, llb.Diff(llb.Scratch(), out1)})
	def, err := all.Marshal(context.TODO(), llb.LinuxAmd64)
	check(err)
	p := def.ToPB()
	build := &pb.Op{Inputs: []*pb.Input{{Digest: "sha256:x"}}, Op: &pb.Op_Build{Build: &pb.BuildOp{
		Builder: 0, Inputs: map[string]*pb.BuildInput{"z": {Input: 1}, "a": {}}, Attrs: map[string]string{"k": "<v>"}}}}
	b, err := proto.Marshal(build)
	check(err)
	p.Def = append(p.Def, b)
	b, err = proto.Marshal(p)
	check(err)
	_, err = os.Stdout.Write(b)
	check(err)
}
