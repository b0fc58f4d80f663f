package replica

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/quorate/quorate/ledger"
	"github.com/quorate/quorate/ledger/canon"
)

// FirstCertificate is what this replica showed before it rotated.
func (r *Replica) FirstCertificate() tls.Certificate { return r.ring.Load().held[0].certificate }

// NewestCosignature is the newest head that carries a cosignature of this replica, as
// another one knows it, as it travels.
func (r *Replica) NewestCosignature(of ledger.Hash) ([]byte, error) {
	s, ok := r.certifier.newestOf(of)
	if !ok {
		return nil, fmt.Errorf("none of %s", of)
	}
	return canon.Marshal(s.message())
}

// Ask puts a request to the peer service over a connection that was made with a
// certificate, and gives its status and answer.
func (r *Replica) Ask(with tls.Certificate, path string, body []byte) (status int, answer string, err error) {
	leaf, err := x509.ParseCertificate(with.Certificate[0])
	if err != nil {
		return 0, "", err
	}
	q := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	q.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	w := httptest.NewRecorder()
	r.peerHandler().ServeHTTP(w, q)
	return w.Code, w.Body.String(), nil
}
