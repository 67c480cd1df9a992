//! Encrypts the connections of a server, with a certificate that only the tests' own authority has
//! signed. Never checks a client.

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::{net::TcpStream, path::PathBuf, sync::Arc};

/// Returns the file with the certificate of the authority.
pub fn authority() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tls/authority.pem"))
}

/// Encrypts a connection from a client to 127.0.0.1. `None` if the client refuses the certificate.
///
/// # Panics
/// If the certificate is malformed.
pub fn accept(mut client: TcpStream) -> Option<StreamOwned<ServerConnection, TcpStream>> {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).expect("it is a certificate");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("it is a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
        .expect("the key is that of the certificate");
    let mut connection = ServerConnection::new(Arc::new(config)).expect("the settings are valid");
    connection.complete_io(&mut client).ok()?;
    Some(StreamOwned::new(connection, client))
}
