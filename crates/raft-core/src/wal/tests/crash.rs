//! Power cuts: at every change of the disk, with every subset of what was not synced where that is feasible.

use super::*;

/// Opens what a crash left and checks it against what was promised and what was under way.
fn check(disk: &SimDisk, promised: &Model, under_way: &Model, what: &str) {
    match open(disk) {
        Ok((_, recovered)) => assert!(
            promised.is(&recovered) || under_way.is(&recovered),
            "{what}: promised {promised:?}\nunder way {under_way:?}\nfound {recovered:?}"
        ),
        Err(error) => panic!("{what}: {error}"),
    }
    // What was found is promised from now on: a second power cut right after the start must not change it.
    let (_, first) = open(disk).unwrap();
    let again = disk.crash_with(&mut |_| 0);
    let (_, second) = open(&again).unwrap();
    assert_eq!(
        (first.hard_state, first.snapshot, first.entries),
        (second.hard_state, second.snapshot, second.entries),
        "{what}"
    );
}

/// Tries every combination of decisions, up to `limit` of them. True if that were all.
fn all_crashes(disk: &SimDisk, limit: usize, mut act: impl FnMut(&SimDisk)) -> bool {
    let mut path: Vec<(usize, usize)> = Vec::new();
    for _ in 0..limit {
        let mut depth = 0;
        let image = disk.crash_with(&mut |count| {
            if depth == path.len() {
                path.push((0, count));
            }
            depth += 1;
            path[depth - 1].0
        });
        path.truncate(depth);
        act(&image);
        while path.last().is_some_and(|&(choice, count)| choice + 1 == count) {
            path.pop();
        }
        match path.last_mut() {
            Some((choice, _)) => *choice += 1,
            None => return true,
        }
    }
    false
}

#[test]
fn every_crash_of_a_short_history_keeps_what_was_promised() {
    let (mut images, mut complete) = (0, 0);
    let mut points = 0;
    for seed in 0..12 {
        let disk = SimDisk::new(seed);
        disk.record_history();
        let mut random = Rng::new(seed, "short history");
        let mut promised = Model::default();
        let (mut wal, _) = open(&disk).unwrap();
        for step in 0..8 {
            let mut under_way = promised.clone();
            if step == 0 {
                // Opening an empty directory: the log is empty at every point.
            } else if step % 4 == 3 && !under_way.entries.is_empty() {
                let at = under_way.entries[random.below(under_way.entries.len() as u64) as usize].id;
                let mark = Write { snapshot: Some(meta(at.term, at.index)), ..Write::default() };
                wal.compact(mark.snapshot.as_ref().unwrap()).unwrap();
                under_way.write(&mark);
            } else {
                let mut write = under_way.random_write(&mut random, 1200);
                if step == 1 {
                    write = vote(1, 2, 0);
                }
                under_way.write(&write);
                wal.append(&[write]).unwrap();
            }
            for (point, at) in disk.take_history().into_iter().enumerate() {
                points += 1;
                let what = format!("seed {seed}, step {step}, point {point}");
                complete += usize::from(all_crashes(&at, 600, |image| {
                    images += 1;
                    check(image, &promised, &under_way, &what);
                }));
            }
            promised = under_way;
        }
    }
    assert!(images > 3_000, "only {images} crash images of {points} points");
    assert!(complete * 10 > points * 6, "only {complete} of {points} points were tried completely");
}

#[test]
fn random_crashes_of_long_histories_keep_what_was_promised() {
    for seed in 0..400 {
        let mut disk = SimDisk::new(seed);
        let mut random = Rng::new(seed, "long history");
        let mut model = Model::default();
        for life in 0..4 {
            let (mut wal, recovered) = open(&disk).unwrap();
            assert!(model.is(&recovered), "seed {seed}, life {life}: {model:?} became {recovered:?}");
            for _ in 0..random.below(25) {
                if !model.entries.is_empty() && random.chance(0.1) {
                    let at = model.entries[random.below(model.entries.len() as u64) as usize].id;
                    wal.compact(&meta(at.term, at.index)).unwrap();
                    model.write(&Write { snapshot: Some(meta(at.term, at.index)), ..Write::default() });
                }
                let write = model.random_write(&mut random, 1500);
                wal.append(std::slice::from_ref(&write)).unwrap();
                model.write(&write);
            }
            // The last write is cut somewhere.
            disk.record_history();
            let write = model.random_write(&mut random, 3000);
            wal.append(std::slice::from_ref(&write)).unwrap();
            let points = disk.take_history();
            let mut under_way = model.clone();
            under_way.write(&write);
            disk = random.pick(&points).crash();
            check(&disk, &model, &under_way, &format!("seed {seed}, life {life}"));
            let (_, recovered) = open(&disk).unwrap();
            model = if under_way.is(&recovered) { under_way } else { model };
        }
    }
}

#[test]
fn torn_tail_is_cut() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 2, 0), entries(1, 1..=2, 100)]).unwrap();
    disk.record_history();
    wal.append(&[entries(1, 3..=3, 2000)]).unwrap();
    // After the write, before its sync: lose the second of its sectors.
    let history = disk.take_history();
    let written = &history[history.len() - 2];
    let mut sector = 0;
    let torn = written.crash_with(&mut |count| {
        sector += 1;
        if sector == 2 { 0 } else { count - 1 }
    });
    let (_, recovered) = open(&torn).unwrap();
    assert_eq!(recovered.last_index(), 2);
    let cut = recovered.torn.expect("a torn batch is reported");
    assert_eq!(cut.missing_at, cut.offset + 512);
    let (_, again) = open(&torn).unwrap();
    assert_eq!(again.torn, None, "it is cut once");
}

#[test]
fn a_crash_during_rotation_leaves_the_old_segment_in_charge() {
    let disk = SimDisk::new(1);
    let (mut wal, _) = open(&disk).unwrap();
    wal.append(&[vote(1, 2, 0)]).unwrap();
    let mut index = 0;
    loop {
        disk.record_history();
        index += 1;
        wal.append(&[entries(1, index..=index, 400)]).unwrap();
        if segments(&disk).len() == 2 {
            break;
        }
    }
    let points = disk.take_history();
    assert!(points.len() > 5);
    for point in points {
        for mode in 0..2 {
            let (_, recovered) = open(&point.crash_with(&mut |count| mode * (count - 1))).unwrap();
            assert!(recovered.last_index() == index || recovered.last_index() == index - 1);
        }
    }
}
