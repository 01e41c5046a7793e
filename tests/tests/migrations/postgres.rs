//! A PostgreSQL of this machine where the local cloud says that a database is reached. It takes TLS and a password, or nothing,
//! as RDS does with `rds.force_ssl`.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::CertifiedKey;

/// `nobody`: PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;
const STARTED: Duration = Duration::from_secs(60);

/// Ends PostgreSQL when its standard input is closed, and removes its directory: when whoever started it is gone, however that
/// ended.
const WATCH: &str = r#""$@" </dev/null & cat; kill -QUIT $!; wait; cd /; rm -rf "$0""#;

/// The server.
pub struct Postgres {
    programs: PathBuf,
    address: Address,
    _watch: Child,
    directory: PathBuf,
}

/// Where it is reached, and by whom.
pub struct Address {
    /// The host: an address of this machine.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Who may do everything.
    pub user: String,
    /// The user's password.
    pub password: String,
}

impl Postgres {
    /// Starts one with the programs of this directory, and makes its first database.
    pub fn start(programs: PathBuf, address: Address, database: &str) -> Result<Postgres> {
        let directory = tempfile::Builder::new().prefix("postgres-").tempdir()?;
        let is_root = fs::metadata("/proc/self")?.uid() == 0;
        let owned = |path: &Path| if is_root { chown(path, Some(NOBODY), Some(NOBODY)) } else { Ok(()) };
        let as_owner = |program: &mut Command| {
            if is_root {
                program.uid(NOBODY).gid(NOBODY);
            }
        };
        owned(directory.path())?;
        let file = |name: &str, content: &str| -> Result<PathBuf> {
            let path = directory.path().join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            owned(&path)?;
            Ok(path)
        };
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([address.host.clone()]).context("making a certificate")?;
        let password = file("password", &address.password)?;
        let certificate = file("server.crt", &pem("CERTIFICATE", cert.der()))?;
        let key = file("server.key", &pem("PRIVATE KEY", &signing_key.serialize_der()))?;
        let rules = file("pg_hba.conf", "hostssl all all 0.0.0.0/0 scram-sha-256\n")?;

        let data = directory.path().join("data");
        let mut made = Command::new(programs.join("initdb"));
        made.args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--username", &address.user])
            .arg("--pwfile")
            .arg(password)
            .arg("--pgdata")
            .arg(&data)
            .current_dir(directory.path());
        as_owner(&mut made);
        let made = made.output().context("starting initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));

        let setting = |name: &str, path: &Path| format!("{name}={}", path.display());
        let log = fs::File::create(directory.path().join("log"))?;
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH]).arg(directory.path()).arg(programs.join("postgres")).arg("-D").arg(&data);
        for value in [
            format!("listen_addresses={}", address.host),
            format!("port={}", address.port),
            "unix_socket_directories=".to_owned(),
            "ssl=on".to_owned(),
            "fsync=off".to_owned(),
            setting("ssl_cert_file", &certificate),
            setting("ssl_key_file", &key),
            setting("hba_file", &rules),
        ] {
            watch.args(["-c", &value]);
        }
        watch.current_dir(directory.path()).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        as_owner(&mut watch);
        let watch = watch.spawn().context("starting postgres")?;
        let server = Postgres { programs, address, _watch: watch, directory: directory.keep() };

        let started = Instant::now();
        while let Err(error) = server.ask("postgres", "SELECT 1") {
            let log = || fs::read_to_string(server.directory.join("log")).unwrap_or_default();
            ensure!(started.elapsed() < STARTED, "{error}\n{}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
        server.ask("postgres", &format!("CREATE DATABASE {database}"))?;
        Ok(server)
    }

    /// What a statement answers: rows as lines, columns with a bar between them.
    pub fn ask(&self, database: &str, statement: &str) -> Result<String> {
        let Address { host, port, user, password } = &self.address;
        let url = format!("postgres://{user}@{host}:{port}/{database}?sslmode=require");
        let answer = Command::new(self.programs.join("psql"))
            .args([&url, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement])
            .env("PGPASSWORD", password)
            .output()
            .context("starting psql")?;
        ensure!(answer.status.success(), "{statement}: {}", String::from_utf8_lossy(&answer.stderr));
        Ok(String::from_utf8(answer.stdout)?.trim().to_owned())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
