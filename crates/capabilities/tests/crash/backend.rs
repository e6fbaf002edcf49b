//! In-memory storage for a redb file that records its operations.

use std::io;
use std::sync::{Arc, Mutex};

use isomer_disk::Storage;
use redb::StorageBackend;

use crate::disk::{Event, Recorder};

/// The storage of a store in memory. Records each operation.
pub(crate) struct Memory {
    recorder: Arc<Recorder>,
    content: Vec<u8>,
}

impl Memory {
    pub(crate) fn new(recorder: Arc<Recorder>, content: Vec<u8>) -> Self {
        Self { recorder, content }
    }
}

impl Storage for Memory {
    fn open(&self, _: bool) -> Result<Box<dyn StorageBackend>, redb::Error> {
        Ok(Box::new(Backend { recorder: self.recorder.clone(), content: Mutex::new(self.content.clone()) }))
    }
}

#[derive(Debug)]
struct Backend {
    recorder: Arc<Recorder>,
    content: Mutex<Vec<u8>>,
}

impl Backend {
    fn file() -> String {
        "redb".to_owned()
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.content.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let found = content.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let bytes = usize::try_from(len).unwrap();
        self.content.lock().unwrap().resize(bytes, 0);
        self.recorder.push(Event::Resize { file: Self::file(), bytes });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.recorder.push(Event::Sync { file: Self::file() });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.content.lock().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        self.recorder.push(Event::Write { file: Self::file(), offset, data: data.to_vec() });
        Ok(())
    }
}
