//! Container images built in memory, `FROM scratch`: one layer of files and a configuration.
//!
//! Equal content gives an equal digest; one changed environment variable gives another.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// An image to be: what `docker build` would read from a Dockerfile.
#[derive(Debug, Clone, Default)]
pub struct Image {
    files: Vec<(String, Bytes, u32)>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    port: Option<u16>,
    architecture: Option<&'static str>,
}

impl Image {
    /// `FROM scratch`.
    #[must_use]
    pub fn scratch() -> Self {
        Self::default()
    }

    /// `COPY`, with a mode: `0o755` for a program.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Bytes>, mode: u32) -> Self {
        self.files.push((path.trim_start_matches('/').to_owned(), content.into(), mode));
        self
    }

    /// `ENTRYPOINT`.
    #[must_use]
    pub fn entrypoint<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.entrypoint = arguments.into_iter().map(str::to_owned).collect();
        self
    }

    /// `CMD`: the arguments when the task definition has no `command`.
    #[must_use]
    pub fn command<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command = arguments.into_iter().map(str::to_owned).collect();
        self
    }

    /// `ENV`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `EXPOSE`.
    #[must_use]
    pub fn expose(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// What it says it is for, as `docker build --platform linux/<architecture>` does: `arm64`. `amd64` unless given, which is also
    /// what is in it.
    #[must_use]
    pub fn architecture(mut self, architecture: &'static str) -> Self {
        self.architecture = Some(architecture);
        self
    }

    /// Its manifest, as the registry takes it.
    ///
    /// # Errors
    /// None, but those of writing to memory.
    pub fn manifest(&self) -> std::io::Result<Bytes> {
        Ok(self.build()?.manifest)
    }

    pub(crate) fn build(&self) -> std::io::Result<Built> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content, mode) in &self.files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(*mode);
            header.set_mtime(0);
            archive.append_data(&mut header, path, content.as_ref())?;
        }
        let archive = archive.into_inner()?;
        let diff_id = digest(&archive);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&archive)?;
        let layer = Bytes::from(encoder.finish()?);

        let environment: Vec<_> = self.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut run = json!({ "Env": environment, "Entrypoint": self.entrypoint, "WorkingDir": "/" });
        if !self.command.is_empty() {
            run["Cmd"] = json!(self.command);
        }
        if let Some(port) = self.port {
            run["ExposedPorts"] = json!({ format!("{port}/tcp"): {} });
        }
        let config = json!({
            "architecture": self.architecture.unwrap_or("amd64"),
            "os": "linux",
            "config": run,
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
            "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "local-cloud" }],
        });
        let config = Bytes::from(config.to_string());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "size": config.len(), "digest": digest(&config) },
            "layers": [{ "mediaType": LAYER, "size": layer.len(), "digest": digest(&layer) }],
        });
        Ok(Built { blobs: [layer, config], manifest: Bytes::from(manifest.to_string()) })
    }
}

/// What goes to the registry.
pub(crate) struct Built {
    pub(crate) blobs: [Bytes; 2],
    pub(crate) manifest: Bytes,
}

impl Built {
    pub(crate) const MEDIA_TYPE: &str = MANIFEST;
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let mut text = String::from("sha256:");
    for byte in hash {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text
}

const HEX: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::{Image, digest};

    #[test]
    fn the_digest_is_that_of_the_content() {
        let image =
            |version| Image::scratch().file("/server", "binary", 0o755).entrypoint(["/server"]).env("VERSION", version);
        let manifest = |version| digest(&image(version).build().unwrap().manifest);
        assert_eq!(manifest("1"), manifest("1"));
        assert_ne!(manifest("1"), manifest("2"));
        assert_eq!(digest(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
