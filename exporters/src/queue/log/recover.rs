//! What a directory holds when it is opened.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::record::{self, HEADER, Header, Kind, MAGIC};
use super::{Place, Segment, State};

/// The name of a segment's file.
pub(super) fn file_name(segment: u64) -> String {
    format!("{segment:020}.log")
}

/// The numbers of the segments in a directory, in ascending order.
fn segments(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse().ok());
        // What has another name was not put there by us.
        found.extend(number.filter(|number| name.to_str() == Some(file_name(*number).as_str())));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads what is in all segments. All batches that are not done with wait.
pub(super) fn recover(directory: &Path) -> io::Result<State> {
    let mut state = State::default();
    let segments = segments(directory)?;
    for segment in &segments {
        let is_last = segments.last() == Some(segment);
        read_segment(directory, *segment, is_last, &mut state)?;
    }
    state.waiting = state.batches.keys().map(|number| (*number, None)).collect();
    Ok(state)
}

fn read_segment(directory: &Path, segment: u64, is_last: bool, state: &mut State) -> io::Result<()> {
    let path = directory.join(file_name(segment));
    let file = File::open(&path)?;
    let len = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(64 << 10, file);
    state.segments.insert(segment, Segment { bytes: len, ..Segment::default() });
    let (sound, end) = match read_records(&mut reader, segment, len, is_last, state) {
        Ok(found) => found,
        // The disk has it no more. All that was read before counts.
        Err((sound, error)) => {
            tracing::error!("{}: {error}", path.display());
            (sound, End::Damaged)
        }
    };
    match end {
        End::Whole => {}
        // It was being written when the process or the machine stopped, and was promised to nobody.
        End::Torn if is_last => {
            drop(reader);
            let file = OpenOptions::new().write(true).open(&path)?;
            file.set_len(sound)?;
            file.sync_all()?;
        }
        End::Torn | End::Damaged => {
            state.damaged += 1;
            state.segments.entry(segment).or_default().is_damaged = true;
            tracing::error!(
                "{}: cannot be read from byte {sound} on; batches behind it are lost, and the file will be kept",
                path.display()
            );
        }
    }
    Ok(())
}

/// How a segment ends.
enum End {
    Whole,
    /// In what was not written to its end.
    Torn,
    /// In something else than a record.
    Damaged,
}

/// Takes note of all records of a segment; returns where the last sound one ends, and what comes then.
fn read_records(
    reader: &mut BufReader<File>,
    segment: u64,
    len: u64,
    is_last: bool,
    state: &mut State,
) -> Result<(u64, End), (u64, io::Error)> {
    let mut sound = 0;
    let mut magic = [0; MAGIC.len()];
    if len < MAGIC.len() as u64 {
        return Ok((sound, End::Torn));
    }
    reader.read_exact(&mut magic).map_err(|error| (sound, error))?;
    if magic != MAGIC {
        return Ok((sound, if is_zero(&magic, reader) { End::Torn } else { End::Damaged }));
    }
    sound = MAGIC.len() as u64;
    // A batch with a wrong checksum: damaged if something sound comes after it, else not written to its end.
    let mut doubtful: Option<Place> = None;
    let mut offset = sound;
    while offset < len {
        let found = read_record(reader, segment, offset, len, is_last).map_err(|error| (sound, error))?;
        let (place, is_whole) = match found {
            Ok(found) => found,
            Err(end) => return Ok((sound, end)),
        };
        offset = place.offset + place.header.payload_len();
        if !is_whole && doubtful.is_none() {
            doubtful = Some(place);
            continue;
        }
        if let Some(damaged) = doubtful.take() {
            state.put(damaged);
        }
        match place.header.kind {
            // Whoever reads it finds out.
            Kind::Batch => state.put(place),
            Kind::Done => {
                state.last_number = state.last_number.max(place.header.number);
                state.finish(place.header.number);
            }
        }
        sound = offset;
    }
    Ok((sound, if doubtful.is_some() { End::Torn } else { End::Whole }))
}

/// Whether there is nothing but zeros, which is what a file system may leave of what was not written.
fn is_zero(begin: &[u8], rest: &mut BufReader<File>) -> bool {
    begin.iter().all(|byte| *byte == 0) && rest.bytes().all(|byte| byte.is_ok_and(|byte| byte == 0))
}

/// The record at `offset`, and whether its payload has the right checksum, which is looked at where it `may_be_torn`; or
/// what is there instead.
fn read_record(
    reader: &mut BufReader<File>,
    segment: u64,
    offset: u64,
    len: u64,
    may_be_torn: bool,
) -> io::Result<Result<(Place, bool), End>> {
    let mut header = [0; HEADER];
    let payload = offset + HEADER as u64;
    if payload > len {
        return Ok(Err(End::Torn));
    }
    reader.read_exact(&mut header)?;
    let Some(decoded) = Header::decode(&header) else {
        return Ok(Err(if is_zero(&header, reader) { End::Torn } else { End::Damaged }));
    };
    if payload + decoded.payload_len() > len {
        return Ok(Err(End::Torn));
    }
    let mut is_whole = true;
    if may_be_torn && decoded.kind == Kind::Batch {
        let mut bytes = Vec::new();
        reader.by_ref().take(decoded.payload_len()).read_to_end(&mut bytes)?;
        is_whole = record::checksum([&bytes[..]]) == decoded.checksum;
    } else {
        // Within what is buffered this reads nothing anew.
        reader.seek_relative(decoded.payload_len() as i64)?;
    }
    Ok(Ok((Place { segment, offset: payload, header: decoded }, is_whole)))
}

/// The payload of a batch.
pub(super) fn read_payload(file: &mut File, place: Place) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(place.offset))?;
    let mut payload = vec![0; place.header.payload_len() as usize];
    file.read_exact(&mut payload)?;
    Ok(payload)
}
