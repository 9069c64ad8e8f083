//! Which certificates of clients are taken beyond those that lead to a known authority: any, or those with a certain name.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::EndEntityCert;

use super::web_config::Fault;

/// Whether a client has to show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Optional,
    Demanded,
}

/// Takes any certificate whose key the client has, whoever issued it.
#[derive(Debug)]
pub(super) struct AnyCertificate {
    presence: Presence,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyCertificate {
    pub(super) fn new(presence: Presence, provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self {
            presence,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.presence == Presence::Demanded
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Takes of the certificates that another verifier takes those with one of some names (`client_allowed_sans`).
#[derive(Debug)]
pub(super) struct AllowedNames {
    names: Vec<String>,
    addresses: Vec<ServerName<'static>>,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl AllowedNames {
    /// Names are DNS names, URIs and IP addresses, compared as they are written.
    pub(super) fn new(
        names: Vec<String>,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Self, Fault> {
        let is_mail = |name: &&String| name.contains('@') && !name.contains(':');
        if let Some(place) = names.iter().position(|name| is_mail(&name)) {
            let what = format!(
                "entry {} is a mail address, which is not supported",
                place + 1
            );
            return Err(("tls_server_config.client_allowed_sans", what));
        }
        let addresses = names
            .iter()
            .filter_map(|name| name.parse::<IpAddr>().ok())
            .map(|address| ServerName::IpAddress(address.into()))
            .collect();
        Ok(Self {
            names,
            addresses,
            verifier,
        })
    }

    fn has_allowed(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(certificate) = EndEntityCert::try_from(certificate) else {
            return false;
        };
        let has_address = |address| {
            certificate
                .verify_is_valid_for_subject_name(address)
                .is_ok()
        };
        certificate
            .valid_dns_names()
            .chain(certificate.valid_uri_names())
            .any(|name| self.names.iter().any(|allowed| allowed == name))
            || self.addresses.iter().any(has_address)
    }
}

impl ClientCertVerifier for AllowedNames {
    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .verifier
            .verify_client_cert(end_entity, intermediates, now)?;
        match self.has_allowed(end_entity) {
            true => Ok(verified),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
