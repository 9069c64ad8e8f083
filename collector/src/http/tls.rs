//! The TLS section of the web config file, and the server's side of TLS made from it.
//!
//! TLS 1.2 and 1.3 are spoken. A name of a cipher suite or a curve that is not implemented here is left out with a warning, as
//! long as others are left: what is asked for is never widened.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring as implementation};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version,
};
use serde::Deserialize;

use super::client_certificate::{AllowedNames, AnyCertificate, Presence};
use super::web_config::{Fault, Material};

/// `tls_server_config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFile {
    cert: Option<String>,
    key: Option<String>,
    client_ca: Option<String>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<Version>,
    max_version: Option<Version>,
    cipher_suites: Option<Vec<String>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<Curve>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Curve {
    CurveP256,
    CurveP384,
    CurveP521,
    X25519,
}

impl TlsFile {
    /// Whether TLS is asked for at all.
    pub(super) fn is_enabled(&self) -> bool {
        self.cert.is_some()
            || self.key.is_some()
            || self.client_ca.is_some()
            || self.client_auth_type.is_some()
            || self.files().next().is_some()
    }

    /// The files it names.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.cert_file, &self.key_file, &self.client_ca_file]
            .into_iter()
            .filter_map(|file| file.as_deref())
            .filter(|file| !file.as_os_str().is_empty())
    }
}

/// The server's side of TLS as `section` asks for it; the files it names are in `material`.
pub(super) fn server_config(
    section: &TlsFile,
    material: &Material,
) -> Result<Arc<ServerConfig>, Fault> {
    let pem = |file: &Option<PathBuf>, text: &Option<String>| -> Option<Vec<u8>> {
        match file {
            Some(file) if !file.as_os_str().is_empty() => {
                material.named.get(&material.place(file)).cloned()
            }
            _ => text.as_ref().map(|text| text.clone().into_bytes()),
        }
    };
    const CERT: &str = "tls_server_config.cert_file";
    const KEY: &str = "tls_server_config.key_file";
    let missing = |what: &str| ("tls_server_config", format!("one of {what} is needed"));
    let cert =
        pem(&section.cert_file, &section.cert).ok_or_else(|| missing("cert or cert_file"))?;
    let key = pem(&section.key_file, &section.key).ok_or_else(|| missing("key or key_file"))?;
    let certificates = certificates(&cert, CERT)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| (KEY, "holds no private key in PEM".to_owned()))?;
    let authorities = pem(&section.client_ca_file, &section.client_ca);
    let provider = Arc::new(provider(section)?);
    let verifier = verifier(section, authorities.as_deref(), &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(section)?)
        .map_err(|error| ("tls_server_config", error.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)
        .map_err(|error| {
            (
                KEY,
                format!("certificate and key are of no use together: {error}"),
            )
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ignore_client_order = section.prefer_server_cipher_suites.unwrap_or(true);
    Ok(Arc::new(config))
}

fn certificates(pem: &[u8], setting: &'static str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| (setting, "is not PEM".to_owned()))?;
    if certificates.is_empty() {
        return Err((setting, "holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}

fn versions(section: &TlsFile) -> Result<Vec<&'static SupportedProtocolVersion>, Fault> {
    let min = section.min_version.unwrap_or(Version::Tls12);
    let max = section.max_version.unwrap_or(Version::Tls13);
    let versions: Vec<_> = [
        (Version::Tls12, &version::TLS12),
        (Version::Tls13, &version::TLS13),
    ]
    .into_iter()
    .filter(|(version, _)| (min..=max).contains(version))
    .map(|(_, version)| version)
    .collect();
    if versions.is_empty() {
        let what = "leaves nothing: TLS12 and TLS13 are spoken".to_owned();
        return Err(("tls_server_config.max_version", what));
    }
    Ok(versions)
}

fn provider(section: &TlsFile) -> Result<CryptoProvider, Fault> {
    let mut provider = implementation::default_provider();
    if let Some(names) = section
        .cipher_suites
        .as_ref()
        .filter(|names| !names.is_empty())
    {
        let is_named =
            |suite: &SupportedCipherSuite, name: &str| suite.suite().as_str() == Some(name);
        let named: Vec<_> = names
            .iter()
            .filter_map(|name| {
                let suite = provider.cipher_suites.iter().find(|suite| is_named(suite, name));
                if suite.is_none() {
                    tracing::warn!(suite = ?name, "a cipher suite of the web config file is not implemented, and left out");
                }
                suite.copied()
            })
            .collect();
        if named.is_empty() {
            let what = "none of them is implemented".to_owned();
            return Err(("tls_server_config.cipher_suites", what));
        }
        // They are for TLS 1.2; those of TLS 1.3 are not chosen, as in Go.
        provider
            .cipher_suites
            .retain(|suite| matches!(suite, SupportedCipherSuite::Tls13(_)));
        let others = named
            .into_iter()
            .filter(|suite| matches!(suite, SupportedCipherSuite::Tls12(_)));
        provider.cipher_suites.extend(others);
    }
    if let Some(curves) = section
        .curve_preferences
        .as_ref()
        .filter(|curves| !curves.is_empty())
    {
        let groups: Vec<_> = curves.iter().filter_map(|curve| group(*curve)).collect();
        if groups.is_empty() {
            let what = "none of them is implemented".to_owned();
            return Err(("tls_server_config.curve_preferences", what));
        }
        if groups.len() < curves.len() {
            tracing::warn!("CurveP521 of the web config file is not implemented, and left out");
        }
        provider.kx_groups = groups;
    }
    Ok(provider)
}

fn group(curve: Curve) -> Option<&'static dyn SupportedKxGroup> {
    match curve {
        Curve::CurveP256 => Some(implementation::kx_group::SECP256R1),
        Curve::CurveP384 => Some(implementation::kx_group::SECP384R1),
        Curve::X25519 => Some(implementation::kx_group::X25519),
        Curve::CurveP521 => None,
    }
}

/// What is asked of clients' certificates, by the names of Go's `tls.ClientAuthType`.
fn verifier(
    section: &TlsFile,
    authorities: Option<&[u8]>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Fault> {
    const TYPE: &str = "tls_server_config.client_auth_type";
    const CA: &str = "tls_server_config.client_ca_file";
    let roots = |authorities: &[u8]| -> Result<_, Fault> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(authorities, CA)? {
            roots
                .add(certificate)
                .map_err(|error| (CA, error.to_string()))?;
        }
        Ok(WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(provider),
        ))
    };
    let asked = section.client_auth_type.as_deref().unwrap_or_default();
    let needed = || authorities.ok_or_else(|| (TYPE, format!("{asked} needs client_ca_file")));
    let (verifier, is_demanded): (Arc<dyn ClientCertVerifier>, bool) = match asked {
        "" | "NoClientCert" => {
            if authorities.is_some() {
                let what = "without one client_ca_file would be of no effect".to_owned();
                return Err((TYPE, what));
            }
            (WebPkiClientVerifier::no_client_auth(), false)
        }
        "RequestClientCert" => (AnyCertificate::new(Presence::Optional, provider), false),
        "RequireAnyClientCert" | "RequireClientCert" => {
            (AnyCertificate::new(Presence::Demanded, provider), true)
        }
        "VerifyClientCertIfGiven" => {
            let builder = roots(needed()?)?.allow_unauthenticated();
            let verifier = builder.build().map_err(|error| (CA, error.to_string()))?;
            (verifier, false)
        }
        "RequireAndVerifyClientCert" => {
            let verifier = roots(needed()?)?.build();
            (verifier.map_err(|error| (CA, error.to_string()))?, true)
        }
        _ => {
            let what = "is none of NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert";
            return Err((TYPE, what.to_owned()));
        }
    };
    match &section.client_allowed_sans {
        None => Ok(verifier),
        Some(_) if !is_demanded => Err((
            "tls_server_config.client_allowed_sans",
            "needs client_auth_type RequireAnyClientCert or RequireAndVerifyClientCert".to_owned(),
        )),
        Some(names) => Ok(Arc::new(AllowedNames::new(names.clone(), verifier)?)),
    }
}

#[cfg(test)]
mod tests;
