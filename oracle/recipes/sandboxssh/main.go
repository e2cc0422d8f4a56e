// Command sandboxssh is the machine that Packer bakes in the tests of examples/packer: an SSH server on the loopback
// interface that runs the commands it is sent with `sh -c`, as whoever runs it. It prints its port. The one argument is the
// password that it takes.
package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"

	"golang.org/x/crypto/ssh"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: sandboxssh PASSWORD")
	}
	if err := serve(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func serve(password string) error {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PasswordCallback: func(_ ssh.ConnMetadata, given []byte) (*ssh.Permissions, error) {
		if string(given) != password {
			return nil, errors.New("wrong password")
		}
		return nil, nil
	}}
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go handle(conn, config)
	}
}

func handle(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		// Packer tries the port before it speaks to it.
		if !errors.Is(err, io.EOF) {
			log.Print(err)
		}
		return
	}
	defer server.Close()
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		if channel.ChannelType() != "session" {
			_ = channel.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		session, requests, err := channel.Accept()
		if err != nil {
			log.Print(err)
			return
		}
		go run(session, requests)
	}
}

// run carries out the one command of a session.
func run(session ssh.Channel, requests <-chan *ssh.Request) {
	defer session.Close()
	for request := range requests {
		if request.Type != "exec" {
			_ = request.Reply(false, nil)
			continue
		}
		var payload struct{ Command string }
		if err := ssh.Unmarshal(request.Payload, &payload); err != nil {
			_ = request.Reply(false, nil)
			return
		}
		_ = request.Reply(true, nil)
		go ssh.DiscardRequests(requests)
		_, err := session.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status(session, payload.Command)}))
		if err != nil {
			log.Print(err)
		}
		return
	}
}

func status(session ssh.Channel, text string) uint32 {
	command := exec.Command("sh", "-c", text)
	command.Stdout, command.Stderr = session, session.Stderr()
	// A pipe of our own: with Stdin set, Wait would wait until the client closes its side.
	input, err := command.StdinPipe()
	if err != nil {
		return 255
	}
	if err := command.Start(); err != nil {
		fmt.Fprintln(session.Stderr(), err)
		return 255
	}
	go func() {
		// The command may end without reading all of it.
		_, _ = io.Copy(input, session)
		_ = input.Close()
	}()
	err = command.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return uint32(exit.ExitCode())
	}
	return 255
}
