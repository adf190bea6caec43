//! A mongod that requires TLS and authentication, with a generated certificate authority.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use tierkeep_core::bson;
use tierkeep_core::db::Role;
use tierkeep_sharded::process::Mongod;
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_mins(1);
const INTERVAL: Duration = Duration::from_millis(50);
const SET: &str = "secured";
const ADMINISTRATOR: &str = "root:hunter2@";
/// What members of the set tell each other; they are one.
const SET_SECRET: &str = "bWVtYmVycyBvZiB0aGUgc2V0IHRlbGwgZWFjaCBvdGhlcg==";
/// The user and the password of every database.
pub const USER: &str = "tierkeep";
pub const PASSWORD: &str = "pass%40word";

/// A certificate authority, and where its files are.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    /// A new one, with its certificate in `dir`.
    pub fn new(dir: &Path) -> Self {
        let mut authority = named("authority", "a private authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        fs::create_dir_all(dir).unwrap();
        let certificate = authority.self_signed(&key).unwrap();
        fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(authority, key),
            dir: dir.to_owned(),
        }
    }

    /// The file of its certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate for these hosts, with its key in one file.
    pub fn server(&self, hosts: &[&str]) -> PathBuf {
        let mut certificate = named("servers", "server");
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        certificate.subject_alt_names = CertificateParams::new(hosts).unwrap().subject_alt_names;
        certificate.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.signed("server.pem", &certificate)
    }

    /// A client's certificate with this name, with its key in one file.
    pub fn client(&self, name: &str) -> PathBuf {
        let mut certificate = named("tierkeep", name);
        certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.signed(&format!("{name}.pem"), &certificate)
    }

    fn signed(&self, file: &str, certificate: &CertificateParams) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let signed = certificate.signed_by(&key, &self.issuer).unwrap();
        let path = self.dir.join(file);
        fs::write(&path, signed.pem() + &key.serialize_pem()).unwrap();
        path
    }
}

/// What is to be certified: `CN=<name>,OU=<unit>,O=Example`.
fn named(unit: &str, name: &str) -> CertificateParams {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Example");
    subject.push(DnType::OrganizationalUnitName, unit);
    subject.push(DnType::CommonName, name);
    let mut certificate = CertificateParams::default();
    certificate.distinguished_name = subject;
    certificate
}

/// A replica set of one that takes nothing but TLS, with an administrator.
pub struct Secured {
    server: Mongod,
    pub authority: Authority,
    admin: Client,
}

impl Secured {
    /// Starts it; its files are below `dir`.
    pub async fn start(dir: &Path) -> Self {
        let authority = Authority::new(&dir.join("tls"));
        let certificate = authority.server(&["localhost", "127.0.0.1"]);
        let secret = dir.join("set.key");
        fs::write(&secret, SET_SECRET).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let (ca, certificate, secret) =
            (path(&authority.file()), path(&certificate), path(&secret));
        let server = Mongod::start(&[
            "--replSet",
            SET,
            "--auth",
            "--keyFile",
            &secret,
            "--tlsMode",
            "requireTLS",
            "--tlsCertificateKeyFile",
            &certificate,
            "--tlsCAFile",
            &ca,
            "--tlsAllowConnectionsWithoutCertificates",
            // The fewest: a build for tests takes long over each.
            "--setParameter",
            "scramSHA256IterationCount=5000",
        ])
        .unwrap();
        let direct = format!("directConnection=true&tls=true&tlsCAFile={ca}");
        let place = format!("127.0.0.1:{}", server.port());
        let first = format!("mongodb://{place}/?{direct}");
        let first = Client::with_uri_str(first).await.unwrap();
        initiate(&first, &place).await;
        let admin = format!("mongodb://{ADMINISTRATOR}{place}/?{direct}");
        Self {
            server,
            authority,
            admin: Client::with_uri_str(admin).await.unwrap(),
        }
    }

    /// Sends a command as the administrator.
    pub async fn run(&self, database: &str, command: Document) -> Document {
        let database = self.admin.database(database);
        let sent = database.run_command(command.clone());
        sent.await
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// A connection string for this database with these credentials (`user:password@`, or none), options besides.
    pub fn url(&self, credentials: &str, database: &str, options: &str) -> String {
        let (port, ca) = (self.server.port(), self.authority.file());
        format!(
            "mongodb://{credentials}127.0.0.1:{port}/{database}?replicaSet={SET}&tls=true&tlsCAFile={}{options}",
            ca.display()
        )
    }

    /// The connection string of `role` for the user of its database.
    pub fn own_url(&self, role: Role) -> String {
        self.url(&format!("{USER}:{PASSWORD}@"), role.name(), "")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.server.port()
    }
}

/// Makes it a replica set and gives it its administrator, by the exception that loopback has until there is one.
async fn initiate(client: &Client, place: &str) {
    let admin = client.database("admin");
    let config = doc! { "_id": SET, "members": [{ "_id": 0, "host": place }] };
    let began = Instant::now();
    let mut is_initiated = false;
    loop {
        if !is_initiated {
            let initiate = doc! { "replSetInitiate": config.clone() };
            is_initiated = admin.run_command(initiate).await.is_ok();
        } else if let Ok(hello) = admin.run_command(doc! { "hello": 1 }).await
            && hello.get_bool("isWritablePrimary").unwrap()
        {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the server is no primary");
        sleep(INTERVAL).await;
    }
    let root = doc! { "createUser": "root", "pwd": "hunter2", "roles": ["root"] };
    admin.run_command(root).await.unwrap();
}
