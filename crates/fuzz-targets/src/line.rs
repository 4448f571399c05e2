//! What comes over a serial line.

use crate::Verdict;
use crate::sample::Talk;
use boot_info::record::{BootRecord, FRAME_MAGIC, MAX_FRAME};
use boot_info::{ImageRecord, Timestamp};
use factory_proto::link::{Asker, Frame, MAX_BODY, Receiver, encode};
use factory_proto::{Hello, Message};
use fail_code::FailCode;

/// Frames between device and station, against a second implementation that has the whole stream before it.
pub(crate) fn link(data: &[u8]) -> Verdict {
    let mut receiver = Receiver::new();
    let frames: Vec<Frame> = data.iter().filter_map(|byte| receiver.push(*byte)).collect();
    let mut segments: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    // Behind the last delimiter nothing is whole.
    segments.pop();
    let expected: Vec<Frame> = segments.into_iter().filter_map(independent).collect();
    assert_eq!(frames, expected);
    let question = Asker::new(7).ask(Message::Request, b"question").expect("it is short");
    for frame in &frames {
        let again = frame.encode().expect("it came in a frame");
        let mut receiver = Receiver::new();
        assert_eq!(again.iter().find_map(|byte| receiver.push(*byte)).as_ref(), Some(frame));
        let _answer = question.accept(frame.clone());
    }
    Verdict::of(!frames.is_empty())
}

fn independent(stuffed: &[u8]) -> Option<Frame> {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let frame = cobs::decode_vec(stuffed).ok()?;
    let (checked, crc) = frame.split_last_chunk::<4>()?;
    let ([1, number, low, high], body) = checked.split_first_chunk()? else { return None };
    let sound = CRC.checksum(checked) == u32::from_le_bytes(*crc) && body.len() <= MAX_BODY;
    let message = Message::ALL.into_iter().find(|message| message.number() == *number)?;
    sound.then(|| Frame { message, seq: u16::from_le_bytes([*low, *high]), body: body.to_vec() })
}

pub(crate) fn link_seeds() -> Vec<Vec<u8>> {
    let talk = Talk::sample();
    let frame = |message, seq, body: &[u8]| encode(message, seq, body).expect("it is short");
    let stream = [
        &b"U-Boot 2031\r\n"[..],
        &frame(Message::Hello, 0, &Hello.encode()),
        &frame(Message::Receipt, 7, &talk.receipt),
        &[1, 2, 3, 0],
        &frame(Message::Ticket, 7, &talk.ticket),
    ];
    vec![stream.concat(), frame(Message::Outcome, u16::MAX, &[0xA1, 1, 0])]
}

/// Boot records among noise: what is taken is found again as it is. The length and the checksum of whatever is there are
/// made right in a second look.
pub(crate) fn boot_record(data: &[u8]) -> Verdict {
    const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
    let length = (data.len() as u16).to_le_bytes();
    let framed = [&FRAME_MAGIC[..], &length, data, &CRC.checksum(data).to_le_bytes()].concat();
    let mut taken = false;
    for bytes in [data, &framed] {
        let Some((found, used)) = BootRecord::find(bytes) else { continue };
        assert!((10..=bytes.len()).contains(&used));
        let Ok(record) = found else { continue };
        let mut buffer = [0; MAX_FRAME];
        let frame = record.frame(&mut buffer).expect("every record fits");
        assert_eq!(BootRecord::find(frame), Some((Ok(record), frame.len())));
        assert!(bytes[..used].ends_with(frame), "a record has one encoding");
        let _name = FailCode::ALL.iter().find(|code| code.number() == record.code);
        taken = true;
    }
    Verdict::of(taken)
}

pub(crate) fn boot_record_seeds() -> Vec<Vec<u8>> {
    let mut record = BootRecord {
        code: 302,
        board: *b"qemu-virt\0\0\0\0\0\0\0",
        lifecycle: 7,
        cores: 4,
        counter_hz: 62_500_000,
        end: 1 << 40,
        ..Default::default()
    };
    for number in 0..3 {
        record.images.push(ImageRecord { kind: number, plain_digest: [number; 32], ..Default::default() });
        record.timestamps.push(Timestamp { stage: 2, step: number, start: 5, end: 1 << 33 });
    }
    let mut buffer = [0; MAX_FRAME];
    let frame = record.frame(&mut buffer).expect("every record fits");
    let noisy = [b"boot\r\n", frame, b"\r\n"].concat();
    vec![noisy, frame[6..frame.len() - 4].to_vec()]
}
