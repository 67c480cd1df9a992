//! Certificates that a test's own authority signs, and the encryption of servers with them. Never
//! checks a client.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tempfile::TempDir;

/// The name of a server's certificate, beside its address.
pub const SERVER: &str = "shop.example";

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// The certificate and the key of a server at 127.0.0.1.
#[derive(Clone)]
pub struct Identity {
    /// The certificate in PEM.
    pub certificate: String,
    config: Arc<ServerConfig>,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Creates an authority with a new key.
    ///
    /// # Panics
    /// If its file can't be written.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::default();
        // The name of each authority is unique, so that none is mistaken for another.
        params.distinguished_name.push(DnType::CommonName, folder.path().display().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let authority = Self { issuer: Issuer::new(params, key), folder };
        std::fs::write(authority.file(), certificate).expect("it can be written");
        authority
    }

    /// Returns the settings of a host that trusts this authority.
    pub fn settings(&self) -> String {
        format!("[tls]\nca_file = {:?}\n", self.file())
    }

    /// Returns the file with the certificate of the authority. It is removed with the authority.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Creates a server's key, and signs a certificate that expires in `days`, or has expired
    /// before.
    ///
    /// # Panics
    /// If the time is before 1970.
    pub fn identity(&self, days: i64) -> Identity {
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs();
        // Half a day more, so that the number of days is stable.
        let expires = now.checked_add_signed(days * 86_400 + 43_200).expect("a time after 1970");
        let mut params = CertificateParams::new(vec![SERVER.to_owned(), "127.0.0.1".to_owned()]).expect("valid names");
        params.distinguished_name.push(DnType::CommonName, SERVER);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(expires);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], der))
            .expect("the key is that of the certificate");
        Identity { certificate: certificate.pem(), config: Arc::new(config) }
    }
}

impl Identity {
    /// Encrypts a connection from a client. `None` if the client refuses the certificate.
    ///
    /// # Panics
    /// If the settings are invalid.
    pub fn accept(&self, mut client: TcpStream) -> Option<StreamOwned<ServerConnection, TcpStream>> {
        let mut connection = ServerConnection::new(Arc::clone(&self.config)).expect("the settings are valid");
        connection.complete_io(&mut client).ok()?;
        Some(StreamOwned::new(connection, client))
    }
}

/// A server that completes the handshake of each connection, and then reads nothing.
pub struct Unreading {
    pub address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Unreading {
    /// Starts the server. It runs until the test's process ends.
    ///
    /// # Panics
    /// If no port is free.
    pub fn start(identity: &Identity) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let (identity, accepted) = (identity.clone(), Arc::<AtomicUsize>::default());
        let counted = Arc::clone(&accepted);
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for client in listener.incoming().map_while(Result::ok) {
                open.extend(identity.accept(client));
                counted.store(open.len(), Ordering::SeqCst);
            }
        });
        Self { address, accepted }
    }

    /// Returns the number of connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Returns the number of connections that clients hold open. The server itself can't see that
    /// a client closes one, since it doesn't read what was sent before.
    ///
    /// # Panics
    /// If the kernel doesn't list connections.
    pub fn open(&self) -> usize {
        const ESTABLISHED: &str = "01";
        let (listed, port) = (std::fs::read_to_string("/proc/net/tcp").expect("a list"), self.address.port());
        let is_open = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().take(4).collect();
            matches!(fields[..], [_, _, remote, ESTABLISHED] if remote.ends_with(&format!(":{port:04X}")))
        };
        listed.lines().filter(is_open).count()
    }
}
