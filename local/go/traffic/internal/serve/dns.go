package serve

import (
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

// resolve answers a query: TXT records hold the server's name, A records an address from the range for
// documentation (RFC 5737); everything else exists without records.
func resolve(query []byte, name string) ([]byte, error) {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil {
		return nil, err
	}
	if header.Response {
		return nil, errors.New("not a query")
	}
	question, err := parser.Question()
	if err != nil {
		return nil, err
	}
	message := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: header.ID, Response: true, Authoritative: true,
			RecursionDesired: header.RecursionDesired, OpCode: header.OpCode,
		},
		Questions: []dnsmessage.Question{question},
	}
	head := dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class}
	switch question.Type {
	case dnsmessage.TypeTXT:
		message.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.TXTResource{TXT: []string{name}}}}
	case dnsmessage.TypeA:
		message.Answers = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
	}
	return message.Pack()
}
