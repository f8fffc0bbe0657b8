use super::*;

fn probe(letter: char) -> Probe {
    match letter {
        'p' => Probe::Passed,
        'f' => Probe::Failed("failed".to_owned()),
        'a' => Probe::Absent("absent".to_owned()),
        'm' => Probe::Mute("mute".to_owned()),
        other => panic!("{other} is no probe"),
    }
}

fn letter(health: &Health) -> char {
    match health {
        Health::Healthy => 'H',
        Health::Unhealthy(_) => 'U',
        Health::Unknown(_) => '?',
        Health::NotChecked => '-',
    }
}

/// The verdict after each probe.
fn judged(rise: u32, fall: u32, probes: &str) -> String {
    let mut judge = Judge::new(rise, fall);
    let each = |letter_of_probe| {
        judge.note(probe(letter_of_probe));
        letter(&judge.verdict())
    };
    probes.chars().map(each).collect()
}

#[test]
fn verdicts_by_transcript() {
    for (rise, fall, probes, verdicts) in [
        // The first pass is a verdict, a first failure is none.
        (2, 2, "p", "H"),
        (2, 2, "f", "?"),
        (2, 2, "ff", "?U"),
        (2, 2, "fp", "?H"),
        // fall in a row; a pass between starts anew.
        (2, 3, "pffpffpfff", "HHHHHHHHHU"),
        // rise in a row; a failure between starts anew.
        (3, 1, "pfppfpppp", "HUUUUUUHH"),
        // Absent before any life says nothing, however often; after it, it is death at once.
        (2, 2, "aaaaaa", "??????"),
        (2, 9, "pa", "HU"),
        (2, 9, "paaapp", "HUUUUH"),
        (2, 2, "ffa", "?U?"),
        (1, 2, "fafa", "????"),
        // Mute is unknown and proves neither; what stood before stands after.
        (2, 2, "mmm", "???"),
        (2, 2, "pmp", "H?H"),
        (2, 2, "pfmff", "HH?HU"),
        (2, 2, "pampp", "HU?UH"),
        (2, 2, "pmmma", "H???U"),
        // 0 counts as 1.
        (0, 0, "fp", "UH"),
    ] {
        assert_eq!(judged(rise, fall, probes), verdicts, "rise {rise}, fall {fall}, {probes}");
    }
}

/// Every sequence of up to seven probes, against the rules said a second way: by looking back over
/// what was seen and shown instead of counting along.
#[test]
fn every_short_sequence_keeps_the_rules() {
    for (rise, fall) in [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)] {
        let mut sequences = vec![String::new()];
        for _ in 0..7 {
            sequences =
                sequences.iter().flat_map(|s| "pfam".chars().map(move |c| format!("{s}{c}"))).collect();
            for probes in &sequences {
                let verdicts = judged(rise, fall, probes);
                let expected = looked_back(rise as usize, fall as usize, probes, &verdicts);
                assert!(
                    verdicts.ends_with(expected),
                    "rise {rise}, fall {fall}, {probes} -> {verdicts}, not {expected}"
                );
            }
        }
    }
}

/// What the last verdict has to be.
fn looked_back(rise: usize, fall: usize, probes: &str, verdicts: &str) -> char {
    let (earlier, last) = probes.split_at(probes.len() - 1);
    let shown = &verdicts[..verdicts.len() - 1];
    let known = shown.chars().rev().find(|v| *v != '?');
    let in_a_row = |c: char| probes.chars().rev().take_while(|p| *p == c).count();
    match last {
        "m" => '?',
        "a" if earlier.contains('p') => 'U',
        "a" => '?',
        "f" if in_a_row('f') >= fall => 'U',
        "f" => known.unwrap_or('?'),
        _ if in_a_row('p') >= rise => 'H',
        _ => known.unwrap_or('H'),
    }
}

#[test]
fn falling_is_between_the_first_failure_and_the_verdict() {
    let mut judge = Judge::new(2, 3);
    let falling: Vec<bool> = "pfffpp"
        .chars()
        .map(|c| {
            judge.note(probe(c));
            judge.is_falling()
        })
        .collect();
    assert_eq!(falling, [false, true, true, false, false, false]);
}

#[test]
fn together_the_worst_word_counts_and_unknown_is_no_word() {
    let sick = |why: &str| Health::Unhealthy(why.to_owned());
    let unknown = |why: &str| Health::Unknown(why.to_owned());
    for (a, b, both) in [
        (Health::Healthy, Health::Healthy, Health::Healthy),
        (Health::Healthy, unknown("x"), Health::Healthy),
        (Health::Healthy, sick("x"), sick("x")),
        (unknown("x"), sick("y"), sick("y")),
        (unknown("x"), unknown("y"), unknown("x; y")),
        (unknown("x"), unknown("x"), unknown("x")),
        (sick("x"), sick("y"), sick("x; y")),
        (Health::NotChecked, Health::Healthy, Health::Healthy),
        (Health::NotChecked, Health::NotChecked, Health::NotChecked),
    ] {
        assert_eq!(combine(&[a.clone(), b.clone()]), both, "{a:?} {b:?}");
        if !matches!(
            (&a, &b),
            (Health::Unhealthy(_), Health::Unhealthy(_)) | (Health::Unknown(_), Health::Unknown(_))
        ) {
            assert_eq!(combine(&[b.clone(), a.clone()]), both, "{b:?} {a:?}");
        }
    }
    assert_eq!(combine(&[]), Health::NotChecked);
}
