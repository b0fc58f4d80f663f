package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/quorate/quorate/ledger/keys"
)

// The validity of a replica's certificate is without meaning: the ledger pins
// its key (FORMAT.md section 4, tls_pin), and a pin ends with replica.rekey.
var (
	certificateFrom  = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	certificateUntil = time.Date(2120, 1, 1, 0, 0, 0, 0, time.UTC)
)

// newCertificate makes a self-signed certificate and its pin.
func newCertificate(name string) (certPEM, keyPEM []byte, pin [32]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, pin, fmt.Errorf("generate TLS key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, pin, fmt.Errorf("generate TLS certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     []string{name},
		NotBefore:    certificateFrom,
		NotAfter:     certificateUntil,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, pin, fmt.Errorf("make TLS certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, pin, fmt.Errorf("make TLS certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, pin, fmt.Errorf("encode TLS key: %w", err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	return certPEM, keyPEM, sha256.Sum256(cert.RawSubjectPublicKeyInfo), nil
}

// writeTLS writes base.tls.key and base.tls.crt and returns the pin.
func writeTLS(base, name string, written *madeFiles) ([32]byte, error) {
	certPEM, keyPEM, pin, err := newCertificate(name)
	if err != nil {
		return pin, err
	}
	defer keys.WipeBytes(keyPEM)
	if err := written.add(base+".tls.key", func(path string) error { return writeNew(path, keyPEM, 0o600) }); err != nil {
		return pin, err
	}
	return pin, written.add(base+".tls.crt", func(path string) error { return writeNew(path, certPEM, 0o644) })
}

// readTLS opens a certificate and its key, and returns the pin too.
func readTLS(certFile, keyFile string) (tls.Certificate, [32]byte, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return tls.Certificate{}, [32]byte{}, usage("check tls_cert_file and tls_key_file", "read TLS key: %w", err)
	}
	return cert, sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo), nil
}

// writeNew writes a file that must not exist yet.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if os.IsExist(err) {
		return wrongFile("nothing is ever overwritten: name another, or move it away", "write %s: it exists", path)
	}
	if err != nil {
		return wrongFile("name a file in a directory that is there and can be written", "write %s: %w", path, causeOf(err))
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		// Half a file is worse than none: it would be in the way of the next try.
		return errors.Join(wrongFile("make room, or name a file elsewhere", "write %s: %w", path, causeOf(err)), os.Remove(path))
	}
	return nil
}
