//! Damage to what was durable: found and refused, never taken for a shorter log.

use super::*;

/// A log of a few batches in two segments, and what it holds.
fn small_log() -> (SimDisk, Model) {
    let disk = SimDisk::new(9);
    let mut model = Model::default();
    let small = WalConfig { segment_bytes: 4096, fill_bytes: 1024, ..config() };
    let (mut wal, _) = Wal::open(Arc::new(disk.clone()), dir(), small).unwrap();
    let mut zeros = entries(2, 3..=3, 0);
    zeros.entries[0].data = Bytes::from(vec![0; 600]);
    let writes = [
        vote(2, 1, 0),
        entries(2, 1..=2, 200),
        zeros,
        Write { snapshot: Some(meta(2, 1)), ..Write::default() },
        entries(2, 4..=6, 100),
        entries(2, 5..=7, 200),
        vote(3, 3, 4),
        entries(3, 8..=8, 30),
    ];
    for write in writes {
        wal.append(std::slice::from_ref(&write)).unwrap();
        model.write(&write);
    }
    assert_eq!(segments(&disk).len(), 2);
    (disk, model)
}

/// Opens a damaged log: it must hold everything or be refused as damaged.
fn whole_or_refused(disk: &SimDisk, model: &Model, what: &str) -> bool {
    match open(disk) {
        Ok((_, recovered)) => {
            assert!(model.is(&recovered), "{what}: lost something silently: {recovered:?}");
            true
        }
        Err(error) => {
            let is_fitting = matches!(
                error,
                WalError::Corrupt { .. } | WalError::Version { .. } | WalError::WrongNode { .. }
            );
            assert!(is_fitting, "{what}: {error}");
            assert!(error.to_string().contains(".wal"), "{what}: the message names no file: {error}");
            false
        }
    }
}

#[test]
fn no_flipped_bit_loses_anything_silently() {
    let (disk, model) = small_log();
    let mut refused = 0;
    for path in segments(&disk) {
        let content = disk.content(&path).unwrap();
        for byte in 0..content.len() {
            // Every bit of used sectors is tried; in free space one bit of each byte is enough.
            let used = content[byte / 512 * 512..][..512].iter().any(|&byte| byte != 0);
            for bit in if used { 0..8 } else { 0..1 } {
                // Opening a used sector changes nothing; free space that is not zero is cleared.
                let damaged = if used { disk.clone() } else { disk.fork() };
                damaged.flip_bit(&path, byte, bit);
                let what = format!("bit {bit} of byte {byte} of {}", path.display());
                refused += usize::from(!whole_or_refused(&damaged, &model, &what));
                if used {
                    damaged.flip_bit(&path, byte, bit);
                }
            }
        }
    }
    assert!(refused > 8_000, "only {refused} flips were noticed");
}

#[test]
fn a_flipped_bit_in_a_last_batch_of_zeros_is_not_taken_for_a_torn_write() {
    // Sectors of zeros were written here; in the clear they would look like sectors that were not.
    let disk = SimDisk::new(9);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 1, 0)]).unwrap();
    wal.append(&[Write { entries: vec![entry(1, 1, vec![0; 2000])], ..Write::default() }]).unwrap();
    drop(wal);
    for byte in 1536..1536 + 2000 {
        let damaged = disk.fork();
        damaged.flip_bit(&first_segment(), byte, byte as u32 % 8);
        let error = open(&damaged).map(drop).unwrap_err();
        assert!(error.is_corruption(), "byte {byte}: {error}");
    }
}

#[test]
fn no_truncated_file_loses_anything_silently() {
    let (disk, model) = small_log();
    for path in segments(&disk) {
        let length = disk.content(&path).unwrap().len();
        for cut in 0..length {
            let damaged = disk.fork();
            damaged.damage(&path, |content| content.truncate(cut));
            whole_or_refused(&damaged, &model, &format!("{} cut at {cut}", path.display()));
        }
    }
}

#[test]
fn a_lost_sector_before_a_later_batch_is_damage_not_a_torn_tail() {
    let (disk, model) = small_log();
    for path in segments(&disk) {
        let content = disk.content(&path).unwrap();
        let last_used = content.iter().rposition(|&byte| byte != 0).unwrap() / 512;
        for sector in 0..last_used {
            let damaged = disk.fork();
            damaged.damage(&path, |content| content[sector * 512..][..512].fill(0));
            let what = format!("sector {sector} of {}", path.display());
            let was_free = content[sector * 512..][..512].iter().all(|&byte| byte == 0);
            assert_eq!(whole_or_refused(&damaged, &model, &what), was_free, "{what}");
        }
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 1, 0)]).unwrap();
    for index in 1..=40 {
        wal.append(&[entries(1, index..=index, 400)]).unwrap();
    }
    drop(wal);
    let all = segments(&disk);
    assert!(all.len() >= 3);
    for path in &all[..all.len() - 1] {
        let damaged = disk.fork();
        crate::wal::Disk::remove(&damaged, path).unwrap();
        let error = open(&damaged).map(drop).unwrap_err();
        assert!(error.is_corruption(), "without {}: {error}", path.display());
    }
}

#[test]
fn a_log_that_ends_before_its_commit_index_is_refused() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 1, 0), entries(1, 1..=2, 10)]).unwrap();
    wal.append(&[vote(1, 1, 9)]).unwrap();
    drop(wal);
    let error = open(&disk).map(drop).unwrap_err();
    assert!(error.to_string().contains("entries up to 9, they were committed"), "{error}");
}

#[test]
fn a_batch_copied_to_another_place_is_not_taken_for_one() {
    let (disk, model) = small_log();
    let path = first_segment();
    let damaged = disk.fork();
    damaged.damage(&path, |content| {
        let batch = content[1024..1536].to_vec();
        content[1536..2048].copy_from_slice(&batch);
    });
    assert!(!whole_or_refused(&damaged, &model, "a batch doubled"));
}

#[test]
fn a_log_inside_a_value_is_not_taken_for_a_later_batch() {
    // A client stores the bytes of this very log; then the write of another value is torn at its first sector.
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 1, 0), entries(1, 1..=1, 10)]).unwrap();
    let copy = disk.content(&first_segment()).unwrap()[..3072].to_vec();
    disk.record_history();
    wal.append(&[Write { entries: vec![entry(1, 2, copy)], ..Write::default() }]).unwrap();
    let history = disk.take_history();
    let written = &history[history.len() - 2];
    let mut decision = 0;
    let torn = written.crash_with(&mut |count| {
        decision += 1;
        if decision == 1 { 0 } else { count - 1 }
    });
    let (_, recovered) = open(&torn).unwrap();
    assert_eq!(recovered.last_index(), 1);
    assert!(recovered.torn.is_some());
}
