//! Certificates that `openssl` makes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority, and what it signed, by the names that nbdkit and libnbd expect.
pub struct Authority {
    /// Where the files are.
    pub folder: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let authority = Self { folder };
        let subject = format!("/CN=authority {name}");
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            "ca-key.pem",
            "-out",
            "ca-cert.pem",
        ]);
        authority.sign("server", "subjectAltName=DNS:localhost,IP:127.0.0.1");
        authority.sign("client", "extendedKeyUsage=clientAuth");
        authority
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(&self.folder).output();
        let output = output.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {errors}");
    }

    fn sign(&self, who: &str, extension: &str) {
        let (key, request) = (format!("{who}-key.pem"), format!("{who}.csr"));
        let (certificate, extensions) = (format!("{who}-cert.pem"), format!("{who}.ext"));
        let text = format!("basicConstraints=CA:FALSE\n{extension}\n");
        std::fs::write(self.path(&extensions), text).unwrap();
        let subject = format!("/CN={who}");
        self.openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca-cert.pem",
            "-CAkey",
            "ca-key.pem",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ]);
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}
