//! Reading a capture back. Every length in the file is checked before it is used.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::mem;
use std::path::Path;

use super::{
    BYTE_ORDER, FIXED_HEADER, FRAME_HEADER, FRAME_LIMIT, Header, KIND_CLOCK, KIND_DATAGRAM, MAGIC,
    VERSION,
};
use crate::audit::message::Datagram;
use crate::audit::socket::Delivery;
use crate::clock::{KtimeNs, RealtimeOffset};

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaptureReadError {
    /// The file does not begin as a capture does.
    #[error("this is not a capture")]
    NotACapture,
    /// A version this code does not know.
    #[error("a capture of version {version}, and only up to {VERSION} can be read")]
    UnknownVersion {
        /// The version.
        version: u16,
    },
    /// Datagrams of a machine with the other byte order.
    #[error("a capture of a machine with another byte order")]
    ForeignByteOrder,
    /// The header contradicts itself.
    #[error(
        "the header of the capture says it is {length} bytes long, and the kernel release in it {release}"
    )]
    MalformedHeader {
        /// The header's length.
        length: u16,
        /// The length of the release.
        release: u16,
    },
    /// A frame longer than any that is written.
    #[error("the frame at byte {offset} says it is {length} bytes long, more than {FRAME_LIMIT}")]
    FrameTooLong {
        /// Where the frame begins.
        offset: u64,
        /// The length it claims.
        length: u32,
    },
    /// A frame too short for its kind.
    #[error("the frame at byte {offset} is {length} bytes long, too short for its kind {kind}")]
    FrameTooShort {
        /// Where the frame begins.
        offset: u64,
        /// Its kind.
        kind: u8,
        /// Its length.
        length: u32,
    },
    /// The file ends within a frame, as one does whose writer was stopped.
    #[error("the capture ends within the frame at byte {offset}")]
    Truncated {
        /// Where the frame begins.
        offset: u64,
    },
    /// Reading failed.
    #[error("cannot read the capture")]
    Io(#[from] io::Error),
}

/// A datagram of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedDatagram {
    /// When it was read from the socket.
    pub arrived: KtimeNs,
    /// Its length as sent.
    pub length: usize,
    /// Header and payload, as far as they were read.
    pub raw: Vec<u8>,
}

impl CapturedDatagram {
    /// The datagram taken apart, as from the socket; none where it is shorter than a netlink header.
    pub fn datagram(&self) -> Option<Datagram<'_>> {
        Datagram::parse(&self.raw, self.length, self.arrived)
    }
}

/// A piece of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A datagram.
    Datagram(CapturedDatagram),
    /// The wall clock was stepped.
    Clock {
        /// When.
        at: KtimeNs,
        /// From then on.
        offset: RealtimeOffset,
    },
}

/// Reads a capture, frame by frame. After an error it ends.
#[derive(Debug)]
pub struct CaptureReader<R> {
    input: R,
    header: Header,
    offset: u64,
    ended: bool,
    /// A body's memory, for the next.
    spare: Vec<u8>,
}

impl CaptureReader<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// Where it cannot be read or is not a capture.
    pub fn open(path: &Path) -> Result<Self, CaptureReadError> {
        Self::new(BufReader::with_capacity(1 << 18, File::open(path)?))
    }
}

impl<R: Read> CaptureReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Where it cannot be read or is not that of a capture.
    pub fn new(mut input: R) -> Result<Self, CaptureReadError> {
        let mut fixed = [0; FIXED_HEADER];
        input
            .read_exact(&mut fixed)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => CaptureReadError::NotACapture,
                _ => error.into(),
            })?;
        if fixed[..8] != MAGIC {
            return Err(CaptureReadError::NotACapture);
        }
        let half = |at: usize| u16::from_le_bytes([fixed[at], fixed[at + 1]]);
        let version = half(8);
        if version == 0 || version > VERSION {
            return Err(CaptureReadError::UnknownVersion { version });
        }
        if fixed[12] != BYTE_ORDER {
            return Err(CaptureReadError::ForeignByteOrder);
        }
        let (length, release_length) = (half(10), half(14));
        let Some(rest) = usize::from(length)
            .checked_sub(FIXED_HEADER)
            .filter(|rest| *rest >= usize::from(release_length))
        else {
            return Err(CaptureReadError::MalformedHeader {
                length,
                release: release_length,
            });
        };
        let mut release = vec![0; rest];
        input.read_exact(&mut release)?;
        release.truncate(usize::from(release_length));
        Ok(Self {
            input,
            header: Header {
                delivery: match fixed[13] {
                    1 => Some(Delivery::Unicast),
                    2 => Some(Delivery::Multicast),
                    _ => None,
                },
                kernel_release: String::from_utf8_lossy(&release).into_owned(),
                offset: RealtimeOffset(u64_at(&fixed, 16) as i64),
                started: KtimeNs(u64_at(&fixed, 24)),
            },
            offset: u64::from(length),
            ended: false,
            spare: Vec::new(),
        })
    }

    /// What the capture says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame of a known kind; none at the end of the file.
    fn read_frame(&mut self) -> Result<Option<Frame>, CaptureReadError> {
        loop {
            let offset = self.offset;
            let mut header = [0; FRAME_HEADER];
            match fill(&mut self.input, &mut header)? {
                0 => return Ok(None),
                FRAME_HEADER => {}
                _ => return Err(CaptureReadError::Truncated { offset }),
            }
            let kind = header[0];
            let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
            let at = KtimeNs(u64_at(&header, 8));
            if length as usize > FRAME_LIMIT {
                return Err(CaptureReadError::FrameTooLong { offset, length });
            }
            let mut body = mem::take(&mut self.spare);
            body.clear();
            body.resize(length as usize, 0);
            if fill(&mut self.input, &mut body)? < body.len() {
                return Err(CaptureReadError::Truncated { offset });
            }
            self.offset += (FRAME_HEADER + body.len()) as u64;

            let too_short = CaptureReadError::FrameTooShort {
                offset,
                kind,
                length,
            };
            match kind {
                KIND_DATAGRAM => {
                    let Some((sent, _)) = body.split_first_chunk::<4>() else {
                        return Err(too_short);
                    };
                    let length = u32::from_le_bytes(*sent) as usize;
                    body.drain(..4);
                    return Ok(Some(Frame::Datagram(CapturedDatagram {
                        arrived: at,
                        length: length.max(body.len()),
                        raw: body,
                    })));
                }
                KIND_CLOCK => {
                    let Some(offset) = body.first_chunk::<8>() else {
                        return Err(too_short);
                    };
                    return Ok(Some(Frame::Clock {
                        at,
                        offset: RealtimeOffset(i64::from_le_bytes(*offset)),
                    }));
                }
                _ => self.spare = body,
            }
        }
    }

    /// Takes a datagram back that nobody needs any more, for its memory.
    pub fn recycle(&mut self, datagram: CapturedDatagram) {
        self.spare = datagram.raw;
    }
}

impl<R: Read> Iterator for CaptureReader<R> {
    type Item = Result<Frame, CaptureReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.read_frame().transpose();
        self.ended = !matches!(frame, Some(Ok(_)));
        frame
    }
}

/// Reads until `buffer` is full or the input ends, and says how much there was.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::capture::CaptureWriter;
    use crate::audit::message;

    fn capture(payloads: &[Vec<u8>]) -> (tempfile::TempDir, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let mut writer = CaptureWriter::create(&path, Delivery::Multicast).unwrap();
        for (index, payload) in payloads.iter().enumerate() {
            let raw = message::request(1300, 0, payload);
            let arrived = KtimeNs(index as u64);
            writer.write(&Datagram::parse(&raw, raw.len() + index, arrived).unwrap());
        }
        writer.clock_stepped(KtimeNs(9), RealtimeOffset(-5));
        let counts = writer.finish().unwrap();
        assert_eq!(counts.offered, payloads.len() as u64);
        assert_eq!(counts.written, counts.offered);
        let bytes = std::fs::read(path).unwrap();
        (folder, bytes)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let payloads = vec![
            b"one".to_vec(),
            Vec::new(),
            vec![0xff; 70_000],
            b"x".to_vec(),
        ];
        let (_folder, bytes) = capture(&payloads);
        assert!(super::super::is_capture(&bytes));
        let mut reader = CaptureReader::new(bytes.as_slice()).unwrap();
        assert_eq!(reader.header().delivery, Some(Delivery::Multicast));
        assert!(!reader.header().kernel_release.is_empty());
        for (index, payload) in payloads.iter().enumerate() {
            let Some(Ok(Frame::Datagram(datagram))) = reader.next() else {
                panic!("no datagram {index}");
            };
            assert_eq!(datagram.arrived, KtimeNs(index as u64));
            let datagram = datagram.datagram().unwrap();
            assert_eq!(datagram.payload, payload);
            assert_eq!(datagram.truncated(), index > 0);
        }
        let clock = reader.next().unwrap().unwrap();
        let offset = RealtimeOffset(-5);
        assert_eq!(
            clock,
            Frame::Clock {
                at: KtimeNs(9),
                offset
            }
        );
        assert!(reader.next().is_none());
    }

    #[test]
    fn a_capture_cut_anywhere_is_read_up_to_the_cut() {
        let (_folder, bytes) = capture(&[b"one".to_vec(), b"two".to_vec()]);
        for cut in 0..bytes.len() {
            match CaptureReader::new(&bytes[..cut]) {
                Err(CaptureReadError::NotACapture | CaptureReadError::Io(_)) => {}
                Err(error) => panic!("{error}"),
                Ok(reader) => {
                    let frames: Vec<_> = reader.collect();
                    assert!(frames.len() <= 3);
                    let good = frames.iter().filter(|frame| frame.is_ok()).count();
                    assert!(frames.len() - good <= 1);
                }
            }
        }
    }

    #[test]
    fn lengths_in_the_file_are_not_trusted() {
        let (_folder, bytes) = capture(&[b"one".to_vec()]);
        let frame = usize::from(bytes[10]);
        let mut bad = bytes.clone();
        bad[frame + 7] = 0xff;
        let error = CaptureReader::new(bad.as_slice()).unwrap().next();
        let Some(Err(CaptureReadError::FrameTooLong { offset, .. })) = error else {
            panic!("{error:?}");
        };
        assert_eq!(offset, frame as u64);
        let mut bad = bytes.clone();
        bad[10] = 3;
        assert!(matches!(
            CaptureReader::new(bad.as_slice()),
            Err(CaptureReadError::MalformedHeader { .. })
        ));
        let mut bad = bytes;
        bad[8] = 2;
        assert!(matches!(
            CaptureReader::new(bad.as_slice()),
            Err(CaptureReadError::UnknownVersion { version: 2 })
        ));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            tail in proptest::collection::vec(any::<u8>(), 0..200), at in 8_usize..60, byte: u8,
        ) {
            let (_folder, mut bytes) = capture(&[b"one".to_vec()]);
            bytes[at] = byte;
            bytes.extend(tail);
            if let Ok(reader) = CaptureReader::new(bytes.as_slice()) {
                for frame in reader {
                    if let Ok(Frame::Datagram(datagram)) = frame {
                        let _ = datagram.datagram();
                    }
                }
            }
        }
    }
}
