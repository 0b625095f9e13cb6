/* The texts of the first screen, and of what is on every screen: key | English | German. */

export const WORDS = `
skip | Skip to the content | Zum Inhalt
screens | Screens | Ansichten
screen.find | Find | Finden
screen.map | Map | Karte
screen.label | Label | Labeln
screen.about | About | Über
collection | Collection | Sammlung
collection.open | Open | Öffnen:
collection.choose | Choose one: | Bitte wählen:
collection.unknown | There is no collection {name} here. | Hier gibt es keine Sammlung {name}.
start.failed | The collections cannot be shown. | Die Sammlungen lassen sich nicht anzeigen.
screen.failed | This screen cannot be shown. | Diese Ansicht lässt sich nicht anzeigen.
start.waiting | The collections are being opened. | Die Sammlungen werden geöffnet.
start.none | This server has no collection. | Dieser Server hat keine Sammlung.
start.none.help | Make one with: embedx extract FOLDER --out indexes/NAME. Then serve it with: embedx serve indexes/NAME | Erstellen: embedx extract ORDNER --out indexes/NAME. Danach starten: embedx serve indexes/NAME
address.unknown | Not known in this address: {what}. | In dieser Adresse nicht bekannt: {what}.
rows | {n, plural: 1 row, # rows} | {n, plural: 1 Zeile, # Zeilen}
channel | channel {n} | Kanal {n}
row | row {id} | Zeile {id}
state.saved | saved | gespeichert
state.waiting | {n, plural: 1 label waits, # labels wait} | {n, plural: 1 Label wartet, # Labels warten}
state.readonly | read-only | schreibgeschützt
state.offline | offline | offline
ask | Ask | Fragen
choose | Choose a sound | Ton auswählen
drop.here | Drop a sound here, or choose one | Ton hier ablegen oder auswählen
drop.formats | WAV, FLAC, OGG, MP3, M4A or AIFF, up to 64 MB; kept here for some minutes only. | WAV, FLAC, OGG, MP3, M4A oder AIFF, bis 64 MB; hier nur einige Minuten aufbewahrt.
describe | or describe it | oder beschreiben
view | View of the model | Ansicht des Modells
record | Record | Aufnehmen
record.stop | Stop {s} | Stopp {s}
record.level | Level of the microphone | Pegel des Mikrofons
record.on | Recording. Press again to stop. | Aufnahme läuft. Nochmals drücken beendet sie.
record.name | Recording.wav | Aufnahme.wav
record.search | Search with it | Damit suchen
mic.insecure | Recording needs https or localhost. | Aufnehmen geht nur über https oder localhost.
mic.denied | The browser blocks the microphone: allow it beside the address. | Der Browser sperrt das Mikrofon: neben der Adresse erlauben.
mic.none | No microphone was found. Plug one in and try again. | Kein Mikrofon gefunden. Bitte anschließen und noch einmal versuchen.
mic.busy | The microphone cannot be opened: another program may use it. | Das Mikrofon lässt sich nicht öffnen: vielleicht benutzt es ein anderes Programm.
mic.unplugged | The microphone was unplugged. The recording until then is here. | Das Mikrofon wurde getrennt. Die Aufnahme bis dahin ist da.
model.imported | These vectors come from other software: there is no model for sounds. Search from a row or filter. | Diese Vektoren stammen aus anderer Software: es gibt kein Modell für Töne. Bitte von einer Zeile aus suchen oder filtern.
text.none | This model knows no text: use a sound | Dieses Modell kennt keinen Text: bitte einen Ton nehmen
query.sound | your sound | Ihr Ton
query.play | Play your sound | Ihren Ton abspielen
query.remove | Take your sound away | Ihren Ton entfernen
query.expired | The sound of this address is no longer kept. Drop it again. | Der Ton dieser Adresse ist nicht mehr da. Bitte noch einmal ablegen.
query.silent | This browser cannot play this format. The search works. | Dieser Browser kann dieses Format nicht abspielen. Die Suche geht.
this.file | This file | Diese Datei
stretch.start | Begin of the stretch | Anfang des Ausschnitts
stretch.end | End of the stretch | Ende des Ausschnitts
because.row | like | wie
because.like | more like | mehr wie
because.unlike | less like | weniger wie
remove | Remove: {what} | Entfernen: {what}
remove.short | Remove | Entfernen
filter | Filter | Filter
filter.sql | as SQL | als SQL
filter.sql.write | write it as SQL | als SQL schreiben
filter.sql.label | Condition in SQL; Enter applies it | Bedingung in SQL; Enter wendet sie an
filter.column | Column | Spalte
filter.value | Value of {column} | Wert von {column}
filter.low | From | Von
filter.high | To | Bis
filter.until | to | bis
filter.nothing | Nothing fits. | Nichts passt.
filter.is | {column} is {value} | {column} ist {value}
filter.not | {column} is not {value} | {column} ist nicht {value}
filter.from | {column} from {value} on | {column} ab {value}
filter.to | {column} up to {value} | {column} bis {value}
filter.above | {column} above {value} | {column} über {value}
filter.below | {column} below {value} | {column} unter {value}
filter.range | {column} {low} to {high} | {column} {low} bis {high}
filter.none | {column} is empty | {column} ist leer
kind.text | text | Text
kind.number | number | Zahl
apply | Apply | Anwenden
hits | Hits | Treffer
count.hits | {n, plural: 1 hit, # hits} in {ms} ms | {n, plural: 1 Treffer, # Treffer} in {ms} ms
count.rows | {n, plural: 1 row, # rows} shown | {n, plural: 1 Zeile, # Zeilen} gezeigt
count.random | {n, plural: 1 row, # rows} at random | {n, plural: 1 zufällige Zeile, # zufällige Zeilen}
measure | score: cosine to the question, 1 is the same | Wert: Kosinus zur Frage, 1 ist gleich
group | Group | Gruppieren
group.none | every row | jede Zeile
group.recording | one for each recording | eine je Aufnahme
diverse | varied | abwechslungsreich
diverse.tip | Hits that also differ from each other | Treffer, die sich voneinander unterscheiden
loading.model | The model is loading, once: some seconds. | Das Modell lädt, einmal: einige Sekunden.
loading.slow | Still searching ... | Suche läuft noch ...
cancel | Cancel | Abbrechen
export | Export | Exportieren
again | Try again | Noch einmal
empty | This collection is empty. Fill it with: embedx extract FOLDER --out indexes/NAME | Diese Sammlung ist leer. Füllen mit: embedx extract ORDNER --out indexes/NAME
none.found | Nothing was found. | Nichts gefunden.
none.filter | No row fits all conditions. Without one of them: | Keine Zeile erfüllt alle Bedingungen. Ohne eine davon:
none.without | ({n, plural: 1 row, # rows} without it) | ({n, plural: 1 Zeile, # Zeilen} ohne sie)
none | (empty) | (leer)
play | Play | Abspielen
stop | Stop | Stopp
more | More like this | Mehr davon
less | Less like this | Weniger davon
less.needs | First search for something: this takes away from a question. | Erst etwas suchen: dies nimmt einer Frage etwas weg.
refined.like | More like {name} | Mehr wie {name}
refined.unlike | Less like {name} | Weniger wie {name}
refined.undone | The step before | Der Schritt davor
picture.none | Spectrogram is loading | Spektrogramm lädt
picture.failed | The server could not make this picture. | Der Server konnte dieses Bild nicht erzeugen.
picture.silence | {duration} of silence | {duration} Stille
picture.loudest | {duration}, loudest at {khz} kHz after {at} | {duration}, am lautesten bei {khz} kHz nach {at}
picture.later | , quiet before | , davor leise
silence | silence | Stille
flag.silent | silent | still
flag.clipped | clipped | übersteuert
flag.truncated | cut off | abgeschnitten
flag.padded | padded | aufgefüllt
flag.short | short | kurz
inspector | The selected row | Die gewählte Zeile
inspector.empty | Choose a card to see it large: arrows move, space plays, h shows all keys. | Eine Karte wählen, um sie groß zu sehen: Pfeile bewegen, Leertaste spielt, h zeigt alle Tasten.
labels | Labels | Labels
label.none | none | keines
label.removed | Label removed | Label entfernt
label.many | Label {n, plural: 1 row, # rows}? | {n, plural: 1 Zeile, # Zeilen} labeln?
somebody | somebody else | jemand anderem
label.other.by | {by}: {label}, just now | {by}: {label}, gerade eben
undo.label | Undone: {label} | Zurückgenommen: {label}
undo.none | There is nothing to undo. | Es gibt nichts zurückzunehmen.
redo.none | There is nothing to do again. | Es gibt nichts zu wiederholen.
confusion | Confusion matrix | Verwechslungsmatrix
confusion.true | true | wahr
close | Close | Schließen
settings | Settings | Einstellungen
help | Keys | Tasten
token.title | This server asks for a token | Dieser Server verlangt ein Token
err.format | {name} cannot be read as sound. WAV, FLAC, OGG, MP3, M4A and AIFF work. | {name} lässt sich nicht als Ton lesen. Es gehen WAV, FLAC, OGG, MP3, M4A und AIFF.
err.size | {name} has {size}; up to {limit} can be sent. Cut out a stretch first. | {name} hat {size}; bis {limit} geht es. Bitte vorher einen Ausschnitt wählen.
err.empty | {name} is empty: it has 0 bytes. | {name} ist leer: 0 Bytes.
err.folder | {name} is a folder or cannot be opened. Drop one file. | {name} ist ein Ordner oder lässt sich nicht öffnen. Bitte eine Datei ablegen.
err.short | {s} s is shorter than the model needs ({min} s). | {s} s sind kürzer, als das Modell braucht ({min} s).
err.silent | This is silence: nothing to compare. | Das ist Stille: nichts zum Vergleichen.
err.long | This is too much sound for one request. Choose a shorter stretch. | Das ist zu viel Ton für eine Anfrage. Bitte einen kürzeren Ausschnitt wählen.
err.nomodel | The model is not on this machine. Install it, search from a row, or filter. | Das Modell fehlt auf diesem Rechner. Bitte installieren, von einer Zeile aus suchen oder filtern.
err.locked | The collection is being written. Try again in a moment. | In die Sammlung wird gerade geschrieben. Gleich noch einmal versuchen.
err.unavailable | The collection cannot be read. Run: embedx verify indexes/NAME | Die Sammlung lässt sich nicht lesen. Bitte: embedx verify indexes/NAME
err.norow | There is no such row any more. | Diese Zeile gibt es nicht mehr.
err.internal | The server has failed; its log says why. Try again. | Fehler im Server; sein Protokoll sagt, warum. Bitte noch einmal versuchen.
err.origin | This address is not one of the server. Open the one that it has printed. | Diese Adresse gehört nicht zum Server. Bitte die öffnen, die er ausgegeben hat.
why.column | There is no column {column}. | Die Spalte {column} gibt es nicht.
why.other | This is not understood here. | Das wird hier nicht verstanden.
err.filter | Not a condition, at character {pos}: {why} Columns: {columns} | Keine Bedingung, bei Zeichen {pos}: {why} Spalten: {columns}
err.busy | The server is busy; again in {s} s. | Der Server ist ausgelastet; neuer Versuch in {s} s.
err.offline | The server does not answer. You can go on: {n, plural: 1 label waits, # labels wait} here. | Der Server antwortet nicht. Sie können weitermachen: {n, plural: 1 Label wartet, # Labels warten} hier.
err.offline.short | The server does not answer. It is asked again by itself. | Der Server antwortet nicht. Er wird von selbst wieder gefragt.
err.readonly | Labels are read-only. The owner allows them with --allow-labels. | Labels sind schreibgeschützt. Mit --allow-labels werden sie erlaubt.
err.damaged | {name} is damaged and is not served. Run: embedx verify indexes/{name} | {name} ist beschädigt und wird nicht ausgeliefert. Bitte: embedx verify indexes/{name}
err.nosound | This row has no sound: its vector was imported. | Diese Zeile hat keinen Ton: ihr Vektor wurde importiert.
err.gone | The recording is no longer where it was. Labels and search still work. | Die Aufnahme ist nicht mehr am alten Ort. Labels und Suche gehen weiter.
label.conflict | {n, plural: 1 row was labelled, # rows were labelled} by somebody else: {value}. | {n, plural: 1 Zeile hat, # Zeilen haben} schon ein Label von jemand anderem: {value}.
conflict | was labelled {theirs} by {by}; you chose {mine}. | hat von {by} das Label {theirs} bekommen; Sie haben {mine} gewählt.
conflict.keep | Keep theirs | So lassen
conflict.take | Take mine | Meines nehmen
conflicts | Labels of others | Labels von anderen
`;
