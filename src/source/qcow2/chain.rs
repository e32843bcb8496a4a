//! Opening an image, its external data file and the images behind it.

use super::super::ImageFormat;
use super::super::error::SourceError;
use super::super::file::{Guard, SourceFile};
use super::header::{Header, damaged};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Longest chain of images.
const LAYERS_MAX: usize = 64;

/// One image of a chain.
#[derive(Debug)]
pub(super) enum Layer {
    /// Byte for byte; always the last of its chain.
    Raw(Box<SourceFile>),
    /// A qcow2 image.
    Qcow2(Box<Qcow2Layer>),
}

/// A qcow2 image of a chain.
#[derive(Debug)]
pub(super) struct Qcow2Layer {
    pub(super) file: SourceFile,
    pub(super) data_file: Option<SourceFile>,
    pub(super) header: Header,
}

impl Layer {
    /// Size of the disk that it holds, in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        match self {
            Self::Raw(file) => file.size_bytes(),
            Self::Qcow2(layer) => layer.header.size_bytes,
        }
    }

    /// The files that it lies in.
    pub(super) fn files(&self) -> impl Iterator<Item = &SourceFile> {
        let (file, data_file): (&SourceFile, _) = match self {
            Self::Raw(file) => (file, None),
            Self::Qcow2(layer) => (&layer.file, layer.data_file.as_ref()),
        };
        std::iter::once(file).chain(data_file)
    }
}

impl Qcow2Layer {
    fn open(file: SourceFile, guard: Guard) -> Result<Self, SourceError> {
        let header = Header::read(&file)?;
        let data_file = if header.has_data_file {
            let name = header.data_file_name.as_deref();
            let name = name.ok_or_else(|| damaged(&file, "it does not name its data file"))?;
            Some(SourceFile::open(&resolve(&file, name)?, guard)?)
        } else {
            None
        };
        Ok(Self { file, data_file, header })
    }

    /// Where its clusters lie.
    pub(super) fn data(&self) -> &SourceFile {
        self.data_file.as_ref().unwrap_or(&self.file)
    }

    // The path and format of the image behind this one.
    fn backing(&self) -> Result<Option<(PathBuf, ImageFormat)>, SourceError> {
        let Some(name) = self.header.backing_name.as_deref() else {
            return Ok(None);
        };
        let Some(format) = self.header.backing_format.as_deref() else {
            return Err(SourceError::BackingFormatMissing {
                path: self.file.path().to_owned(),
                backing: name.to_string_lossy().into_owned(),
            });
        };
        let format = match format {
            "qcow2" => ImageFormat::Qcow2,
            // The last two are names of QEMU's protocols; the content then is taken as it is.
            "raw" | "file" | "host_device" => ImageFormat::Raw,
            _ => {
                let why = format!("whose format {format:?} is not read");
                return Err(bad_reference(&self.file, name, why));
            }
        };
        Ok(Some((resolve(&self.file, name)?, format)))
    }
}

/// Opens the chain that begins with the qcow2 image `top`: the active layer first.
pub(super) fn open(top: SourceFile, quiesced: bool) -> Result<Vec<Layer>, SourceError> {
    // Backing files are locked but not claimed: several disks may stand on one of them.
    let guard = if quiesced { Guard::None } else { Guard::Lock };
    let mut layers = Vec::new();
    let mut next = Some((top, ImageFormat::Qcow2));
    while let Some((file, format)) = next.take() {
        if layers.len() == LAYERS_MAX {
            let what = format!("more than {LAYERS_MAX} images stand on each other");
            return Err(damaged(&file, what));
        }
        if layers.iter().flat_map(Layer::files).any(|earlier| earlier.is_same(&file)) {
            return Err(damaged(&file, "it stands, by way of its backing files, on itself"));
        }
        if format == ImageFormat::Raw {
            layers.push(Layer::Raw(Box::new(file)));
            break;
        }
        let layer = Qcow2Layer::open(file, guard)?;
        if let Some((path, format)) = layer.backing()? {
            next = Some((SourceFile::open(&path, guard)?, format));
        }
        layers.push(Layer::Qcow2(Box::new(layer)));
    }
    Ok(layers)
}

// Names are relative to the folder of the image that holds them, as QEMU has it.
fn resolve(image: &SourceFile, name: &OsStr) -> Result<PathBuf, SourceError> {
    let bytes = name.as_bytes();
    let bytes = bytes.strip_prefix(b"file:").unwrap_or(bytes);
    if bytes.contains(&0) || bytes.is_empty() {
        return Err(bad_reference(image, name, "which cannot be a file's name"));
    }
    // QEMU takes a colon before the first slash as the end of a protocol's name.
    let first = bytes.split(|byte| *byte == b'/').next().unwrap_or(bytes);
    if first.contains(&b':') {
        return Err(bad_reference(image, name, "which is not a file on this machine"));
    }
    let folder = crate::fsio::parent_dir(image.path());
    Ok(folder.join(OsStr::from_bytes(bytes)))
}

fn bad_reference(image: &SourceFile, name: &OsStr, why: impl Into<String>) -> SourceError {
    SourceError::BadReference {
        path: image.path().to_owned(),
        name: name.to_string_lossy().into_owned(),
        why: why.into(),
    }
}
