use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConnection};
use tempfile::TempDir;

use super::*;
use crate::http::web_config::Material;

/// An authority, a server it knows, and what clients show.
struct Host {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

struct Shown {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: authority(),
        };
        let (certificate, key) = issue(&host.authority, &["localhost"]);
        host.write("server.crt", &certificate);
        host.write("server.key", &key);
        host.write("ca.pem", &host.authority.pem());
        host.write("junk.pem", "junk\n");
        let broken = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";
        host.write("broken.pem", broken);
        host
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The server's side where `lines` stand below `tls_server_config`, or why not.
    fn config(&self, lines: &str) -> Result<Arc<ServerConfig>, String> {
        let lines: String = lines.lines().flat_map(|line| ["  ", line, "\n"]).collect();
        self.write("web.yml", &format!("tls_server_config:\n{lines}"));
        let material = Material::read(&self.folder.path().join("web.yml"));
        let config = material.and_then(|material| material.check());
        config
            .map(|config| config.tls.unwrap())
            .map_err(|error| error.to_string())
    }

    fn served(&self, lines: &str) -> Arc<ServerConfig> {
        let all = format!("cert_file: server.crt\nkey_file: server.key\n{lines}");
        self.config(&all).unwrap()
    }

    fn refused(&self, lines: &str) -> String {
        let all = format!("cert_file: server.crt\nkey_file: server.key\n{lines}");
        self.config(&all).unwrap_err()
    }

    /// Whether a client that shows this gets through to this server.
    fn lets_in(&self, server: &Arc<ServerConfig>, shown: Option<&Shown>) -> bool {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let provider = Arc::new(implementation::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(shown) => builder
                .with_client_auth_cert(vec![shown.certificate.clone()], shown.key.clone_key())
                .unwrap(),
        };
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let server = ServerConnection::new(Arc::clone(server)).unwrap();
        shake_hands(client, server)
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    let uri = "spiffe://cluster/prometheus".try_into().unwrap();
    params.subject_alt_names.push(SanType::URI(uri));
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn shown(authority: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) -> Shown {
    let (certificate, key) = issue(authority, names);
    Shown {
        certificate: CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap(),
        key: PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
    }
}

/// Carries bytes between the two until neither has any more to say; false where one refuses the other.
fn shake_hands(mut client: ClientConnection, mut server: ServerConnection) -> bool {
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            if server.process_new_packets().is_err() {
                return false;
            }
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
    }
    !client.is_handshaking() && !server.is_handshaking()
}

#[test]
fn clients_are_asked_for_what_the_type_says() {
    let host = Host::new();
    let known = shown(&host.authority, &["prometheus"]);
    let stranger = shown(&authority(), &["prometheus"]);
    for (lines, nothing, strange) in [
        ("", true, true),
        ("client_auth_type: NoClientCert", true, true),
        ("client_auth_type: RequestClientCert", true, true),
        ("client_auth_type: RequireAnyClientCert", false, true),
        ("client_auth_type: RequireClientCert", false, true),
        (
            "client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: ca.pem",
            true,
            false,
        ),
        (
            "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem",
            false,
            false,
        ),
    ] {
        for versions in ["", "max_version: TLS12\n", "min_version: TLS13\n"] {
            let server = host.served(&format!("{versions}{lines}"));
            assert!(host.lets_in(&server, Some(&known)), "{lines} {versions}");
            assert_eq!(host.lets_in(&server, None), nothing, "{lines} {versions}");
            let let_in = host.lets_in(&server, Some(&stranger));
            assert_eq!(let_in, strange, "{lines} {versions}");
        }
    }
}

#[test]
fn a_certificate_needs_one_of_the_allowed_names() {
    let host = Host::new();
    let client = shown(&host.authority, &["prometheus.example", "192.0.2.7"]);
    for (name, allowed) in [
        ("prometheus.example", true),
        ("192.0.2.7", true),
        ("spiffe://cluster/prometheus", true),
        ("example", false),
        ("192.0.2.8", false),
        ("*.example", false),
    ] {
        for first in [
            "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem",
            "client_auth_type: RequireAnyClientCert",
        ] {
            let lines = format!("{first}\nclient_allowed_sans: ['other', '{name}']");
            let server = host.served(&lines);
            assert_eq!(host.lets_in(&server, Some(&client)), allowed, "{lines}");
            assert!(!host.lets_in(&server, None));
        }
    }
}

#[test]
fn versions_suites_and_curves_are_those_asked_for() {
    let host = Host::new();
    for lines in [
        "min_version: TLS10",
        "min_version: TLS13\nmax_version: TLS13",
        "max_version: TLS12\ncipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
        "cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]",
        "curve_preferences: [CurveP384]",
        "curve_preferences: [CurveP521, X25519]\nprefer_server_cipher_suites: false",
    ] {
        assert!(host.lets_in(&host.served(lines), None), "{lines}");
    }
    // The only suite that is left is for a key the server does not have.
    let rsa = "max_version: TLS12\ncipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]";
    assert!(!host.lets_in(&host.served(rsa), None));
}

#[test]
fn what_cannot_be_had_is_named() {
    let host = Host::new();
    for (lines, wanted) in [
        ("max_version: TLS11", "max_version"),
        ("min_version: TLS13\nmax_version: TLS12", "max_version"),
        ("min_version: TLS14", "web.yml:4"),
        ("cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]", "cipher_suites"),
        ("curve_preferences: [CurveP521]", "curve_preferences"),
        ("curve_preferences: [CurveP257]", "web.yml:4"),
        ("client_auth_type: Yes", "client_auth_type"),
        (
            "client_auth_type: RequireAndVerifyClientCert",
            "needs client_ca_file",
        ),
        ("client_ca_file: ca.pem", "client_auth_type"),
        (
            "client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: junk.pem",
            "client_ca_file: holds no certificate",
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: broken.pem",
            "client_ca_file: ",
        ),
        (
            "client_auth_type: VerifyClientCertIfGiven\nclient_ca_file: no.pem",
            "no.pem",
        ),
        (
            "client_allowed_sans: [a]",
            "client_allowed_sans: needs client_auth_type",
        ),
        (
            "client_auth_type: RequireAnyClientCert\nclient_allowed_sans: [a@b.example]",
            "entry 1 is a mail address",
        ),
    ] {
        let error = host.refused(lines);
        assert!(error.contains(wanted), "{lines}: {error}");
    }
    for (lines, wanted) in [
        ("cert_file: server.crt", "key or key_file"),
        ("key_file: server.key", "cert or cert_file"),
        ("cert_file: server.crt\nkey_file: ''", "key or key_file"),
        (
            "cert_file: junk.pem\nkey_file: server.key",
            "cert_file: holds no certificate",
        ),
        (
            "cert_file: server.crt\nkey_file: junk.pem",
            "key_file: holds no private key",
        ),
        (
            "cert_file: ca.pem\nkey_file: server.key",
            "of no use together",
        ),
    ] {
        let error = host.config(lines).unwrap_err();
        assert!(error.contains(wanted), "{lines}: {error}");
    }
}

#[test]
fn certificate_and_key_may_stand_in_the_file_itself() {
    let host = Host::new();
    let (certificate, key) = issue(&host.authority, &["localhost"]);
    let block = |text: &str| -> String { text.lines().flat_map(|line| ["\n  ", line]).collect() };
    let lines = format!("cert: |{}\nkey: |{}", block(&certificate), block(&key));
    assert!(host.lets_in(&host.config(&lines).unwrap(), None));
}
