//! Reads the certificates of PEM files: those of authorities that the host trusts, and those whose
//! expiry it watches. Never verifies a signature.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
    time::Duration,
};

use jiff::Timestamp;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};
use x509_cert::{
    TbsCertificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use crate::limits;

/// Why the certificates of a file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificatesError {
    #[error("it can't be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is not a regular file")]
    NotAFile,
    #[error("it is larger than {} bytes", limits::CERTIFICATES_BYTES_MAX)]
    TooLarge,
    #[error("it is not valid PEM")]
    NotPem,
    #[error("it contains no certificate in PEM")]
    Empty,
    #[error("its certificate number {number} is malformed")]
    Malformed { number: usize },
}

/// A certificate, and when it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// The first DNS name of the certificate, or its common name.
    pub(crate) name: Option<String>,
    pub(crate) at: Timestamp,
}

/// Returns the certificates of a file. Ignores keys in the same file.
pub(crate) fn read(file: &Path) -> Result<Vec<Certificate<'static>>, CertificatesError> {
    parse(&contents(file)?)
}

/// Returns the public authorities, and those of this file.
pub(crate) fn with_public(file: &Path) -> Result<RootCerts, CertificatesError> {
    let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| Certificate::from_der(der));
    Ok(RootCerts::from(read(file)?.into_iter().chain(public)))
}

/// Returns the certificates of trusted authorities (DER); empty for the public ones.
pub(crate) fn ders(roots: &RootCerts) -> Vec<Vec<u8>> {
    match roots {
        RootCerts::Specific(certificates) => {
            certificates.iter().map(|certificate| certificate.der().to_vec()).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the first certificate of a file that expires.
pub(crate) fn first_expiry(file: &Path) -> Result<Expiry, CertificatesError> {
    earliest(&read(file)?)
}

fn contents(file: &Path) -> Result<Vec<u8>, CertificatesError> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(file)?.is_file() {
        return Err(CertificatesError::NotAFile);
    }
    let mut pem = Vec::new();
    File::open(file)?.take(limits::CERTIFICATES_BYTES_MAX + 1).read_to_end(&mut pem)?;
    if pem.len() as u64 > limits::CERTIFICATES_BYTES_MAX {
        return Err(CertificatesError::TooLarge);
    }
    Ok(pem)
}

fn parse(pem: &[u8]) -> Result<Vec<Certificate<'static>>, CertificatesError> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| CertificatesError::NotPem)? {
            decoded(&certificate, certificates.len() + 1)?;
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() { Err(CertificatesError::Empty) } else { Ok(certificates) }
}

/// Decodes the certificate with this number, from 1.
fn decoded(certificate: &Certificate<'_>, number: usize) -> Result<x509_cert::Certificate, CertificatesError> {
    let malformed = |_| CertificatesError::Malformed { number };
    x509_cert::Certificate::from_der(certificate.der()).map_err(malformed)
}

fn earliest(certificates: &[Certificate<'static>]) -> Result<Expiry, CertificatesError> {
    let mut first: Option<Expiry> = None;
    for (number, certificate) in (1..).zip(certificates) {
        let certificate = decoded(certificate, number)?;
        let certificate = certificate.tbs_certificate();
        let at = time(certificate.validity().not_after.to_unix_duration());
        if first.as_ref().is_none_or(|first| at < first.at) {
            first = Some(Expiry { name: name(certificate), at });
        }
    }
    first.ok_or(CertificatesError::Empty)
}

/// Returns a time after 1970, or the latest one if it is out of range: a certificate without an
/// expiry has the last second of the year 9999.
fn time(since_1970: Duration) -> Timestamp {
    let second = i64::try_from(since_1970.as_secs()).ok();
    second.and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MAX)
}

fn name(certificate: &TbsCertificate) -> Option<String> {
    let alternatives = certificate.get_extension::<SubjectAltName>().ok().flatten();
    let alternatives = alternatives.map(|(_, SubjectAltName(names))| names).unwrap_or_default();
    let dns = alternatives.into_iter().find_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        _ => None,
    });
    let common = || Some(certificate.subject().common_name().ok()??.value().into_owned());
    dns.or_else(common)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    /// Returns a certificate in PEM, which expires `seconds` after 1970.
    fn certificate(names: &[&str], seconds: u64) -> String {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        params.distinguished_name.push(DnType::CommonName, "a common name");
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").pem()
    }

    fn expiry(pem: &str) -> Result<(Option<String>, i64), String> {
        let found = parse(pem.as_bytes()).and_then(|certificates| earliest(&certificates));
        found.map(|first| (first.name, first.at.as_second())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_earliest_expiry_of_a_chain_counts() {
        let key = KeyPair::generate().expect("a key").serialize_pem();
        let leaf = certificate(&["shop.example", "www.shop.example"], 2_000_000_000);
        let of_leaf = (Some("shop.example".to_owned()), 2_000_000_000);
        assert_eq!(expiry(&format!("{leaf}{key}")), Ok(of_leaf.clone()));
        let later = certificate(&[], 2_000_000_001);
        assert_eq!(expiry(&format!("{leaf}{later}")), Ok(of_leaf));
        let earlier = certificate(&[], 1_999_999_999);
        let of_issuer = (Some("a common name".to_owned()), 1_999_999_999);
        assert_eq!(expiry(&format!("{leaf}{later}{earlier}")), Ok(of_issuer));
    }

    #[test]
    fn a_certificate_without_an_expiry_has_the_latest_time() {
        let pem = certificate(&["shop.example"], 253_402_300_799);
        assert_eq!(expiry(&pem).map(|(_, at)| at), Ok(Timestamp::MAX.as_second()));
        assert_eq!(time(Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn a_file_without_a_valid_certificate_is_refused_with_the_reason() {
        let valid = certificate(&["shop.example"], 2_000_000_000);
        let malformed = valid.clone() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (pem, reason) in [
            ("", "it contains no certificate in PEM"),
            ("no PEM at all", "it contains no certificate in PEM"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", "it is not valid PEM"),
            (malformed.as_str(), "its certificate number 2 is malformed"),
        ] {
            assert_eq!(expiry(pem), Err(reason.to_owned()));
        }
    }

    #[test]
    fn the_authorities_of_a_file_are_trusted_beside_the_public_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.pem");
        fs::write(&file, certificate(&["ca.example"], 2_000_000_000)).expect("it can be written");
        let ders = ders(&with_public(&file).expect("it is valid"));
        assert_eq!(ders.len(), webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() + 1);
        assert_eq!(super::ders(&RootCerts::WebPki), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn only_a_regular_file_of_limited_size_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let reason = |path: &Path| read(path).expect_err("it is refused").to_string();
        assert_eq!(reason(folder.path()), "it is not a regular file");
        assert!(reason(&folder.path().join("missing.pem")).contains("No such file"));
        let large = folder.path().join("large.pem");
        fs::write(&large, "x".repeat(2 << 20)).expect("it can be written");
        assert_eq!(reason(&large), "it is larger than 1048576 bytes");
    }
}
