/* The texts of the dialogs: key | English | German. */

export const WORDS = `
set.pictures | Spectrograms | Spektrogramme
set.sound | Sound | Ton
set.page | This page | Diese Seite
set.name | My name, beside my labels | Mein Name, bei meinen Labels
set.colours | Colours | Farben
set.colours.night | night | Nacht
set.colours.paper | paper | Papier
set.colours.ink | ink | Tinte
set.scale | Frequencies | Frequenzen
set.scale.mel | mel | Mel
set.scale.linear | linear | linear
set.window_ms | Window | Fenster
set.window_ms.auto | by the sample rate | nach der Abtastrate
set.fmin | Lowest, Hz (0: as usual) | Unterste, Hz (0: wie üblich)
set.fmax | Highest, Hz (0: all) | Oberste, Hz (0: alle)
set.contrast | Brightness (+ and -) | Helligkeit (+ und -)
set.fixed | The same contrast for all | Gleicher Kontrast für alle
set.volume | Volume | Lautstärke
set.theme | Theme | Aussehen
set.theme.auto | as the system | wie das System
set.theme.light | light | hell
set.theme.dark | dark | dunkel
set.language | Language | Sprache
set.language.auto | as the browser | wie der Browser
set.language.en | English | English
set.language.de | Deutsch | Deutsch
set.keys | Keys | Tasten
export.what | {n, plural: The row that is shown, The # rows that are shown}, as: | {n, plural: Die gezeigte Zeile, Die # gezeigten Zeilen} als:
export.csv | CSV table | CSV-Tabelle
export.raven | Raven | Raven
export.audacity | Audacity | Audacity
export.clips | clips of sound | Tonausschnitte
export.done | Exported | Exportiert
help.search | Search a key | Taste suchen
key.of | Key of: {what} | Taste für: {what}
key.space | Space | Leertaste
key.arrows | arrows | Pfeile
key.next | next card | nächste Karte
key.play | play, stop | abspielen, stoppen
key.open | open in the inspector | groß zeigen
key.wider | five seconds more on each side | fünf Sekunden mehr auf jeder Seite
key.band | only this band | nur dieses Band
key.slower | slower | langsamer
key.faster | faster | schneller
key.brighter | brighter pictures | hellere Bilder
key.darker | darker pictures | dunklere Bilder
key.label | give the label | Label geben
key.unsure | not sure | unsicher
key.unlabel | remove the label | Label entfernen
key.undo | undo (also Ctrl+Z) | zurücknehmen (auch Strg+Z)
key.redo | do again (Shift+U, Ctrl+Shift+Z) | wiederholen (Umschalt+U, Strg+Umschalt+Z)
key.skip | skip | überspringen
key.retrain | retrain the head | Kopf neu trainieren
key.copy | copy the address | Adresse kopieren
key.screen | then f, m, l, a: to a screen | danach f, m, l, a: zu einer Ansicht
key.stop | stop, then close, then leave the field | stoppen, dann schließen, dann das Feld verlassen
token.field | Token | Token
token.send | Sign in | Anmelden
token.wrong | This token is not known. Ask the owner of the server. | Dieses Token ist nicht bekannt. Bitte beim Betreiber des Servers fragen.
`;
