/* The texts of a row that is shown large: key | English | German. */

export const WORDS = `
player | Place in the sound | Stelle im Ton
player.at | {at} of {of} | {at} von {of}
loop | Loop | Schleife
chain | One after the other | Nacheinander
speed | Speed; without "Pitch", slower is also lower | Tempo; ohne „Tonhöhe“ ist langsamer auch tiefer
speed.is | Speed {x} | Tempo {x}
pitch | Pitch | Tonhöhe
pitch.tip | Keep the pitch at another speed | Tonhöhe bei anderem Tempo halten
wider | Wider | Weiter
wider.by | Wider {s} s | Weiter {s} s
band | Band | Band
band.of | Only {low} to {high} Hz; drag up or down in the picture to change it | Nur {low} bis {high} Hz; im Bild nach oben oder unten ziehen ändert es
band.off | All frequencies | Alle Frequenzen
level | Level | Pegel
level.tip | Bring every sound to the same loudness | Jeden Ton auf die gleiche Lautstärke bringen
limit | The model hears up to {khz} kHz | Das Modell hört bis {khz} kHz
on | {what}: on | {what}: an
off | {what}: off | {what}: aus
label.is | Label: | Label:
label.other | another label | anderes Label
label.choose | First choose a card. | Erst eine Karte wählen.
recording.play | Play the recording | Die Aufnahme abspielen
recording.place | Place in the recording | Stelle in der Aufnahme
timeline | Rows of the recording | Zeilen der Aufnahme
timeline.row | row {n} of {all}, {at} {label} | Zeile {n} von {all}, {at} {label}
timeline.only | The only row of its recording, which ends at {end}. | Die einzige Zeile ihrer Aufnahme, die bei {end} endet.
ask.row | Search with this row | Mit dieser Zeile suchen
near | Nearest | Am nächsten
near.failed | The nearest rows could not be read. | Die nächsten Zeilen ließen sich nicht lesen.
facts | Metadata | Metadaten
fact.file | File | Datei
fact.time | Time | Zeit
fact.row | Row | Zeile
fact.score | Score | Wert
copy.name | Copy the name of the file | Dateinamen kopieren
copied | Copied | Kopiert
copy.here | Copy this: | Das hier kopieren:
`;
