/* The texts of the screen About: key | English | German. */

export const WORDS = `
about.run | An extraction runs | Eine Extraktion läuft
about.run.of | {done} of {planned} recordings | {done} von {planned} Aufnahmen
about.run.failed | {n} failed | {n} gescheitert
about.run.speed | {x} hours of audio an hour | {x} Stunden Ton je Stunde
about.run.done | The extraction has ended. | Die Extraktion ist zu Ende.
about.rows | rows | Zeilen
about.hours | hours | Stunden
about.recordings | recordings | Aufnahmen
about.size | size | Größe
about.views | views | Sichten
about.generation | generation | Generation
about.open | Show in Find: {what} | In Finden zeigen: {what}
about.labelled | {n} of {all} rows have a label | {n} von {all} Zeilen haben ein Label
about.nolabel | no label | kein Label
about.more | There are more; the filter of Find offers all. | Es gibt weitere; der Filter in Finden bietet alle an.
about.flags | Peculiar rows | Auffällige Zeilen
about.flags.none | No row is silent, clipped or cut off. | Keine Zeile ist still, übersteuert oder abgeschnitten.
flag.downmixed | mixed from several channels | aus mehreren Kanälen gemischt
flag.cut | cut at the longest length | auf die größte Länge gekürzt
flag.trailing.data | data after the end | Daten nach dem Ende
about.failures | Failures | Fehler
about.failures.none | Every recording could be read. | Jede Aufnahme war lesbar.
about.failures.more | and others: embedx status --failed lists all | und weitere: embedx status --failed nennt alle
reason.missing | not there any more | nicht mehr da
reason.empty | empty | leer
reason.outside | outside of the folder | außerhalb des Ordners
reason.too.large | too large | zu groß
reason.too.short | too short | zu kurz
reason.not.audio | no sound | kein Ton
reason.decoder.crash | the decoder crashed | Decoder abgestürzt
reason.decoder.hang | the decoder did not end | Decoder wurde nicht fertig
reason.non.finite | not a number | keine Zahl
reason.unreadable | not readable | nicht lesbar
about.files | {n, plural: 1 recording, # recordings} | {n, plural: 1 Aufnahme, # Aufnahmen}
about.duplicates | Duplicates | Doppelte
about.duplicates.find | Look for duplicates | Doppelte suchen
about.duplicates.wait | All rows are compared. | Alle Zeilen werden verglichen.
about.duplicates.found | {n, plural: 1 group, # groups} with {rows} rows | {n, plural: 1 Gruppe, # Gruppen} mit {rows} Zeilen
about.duplicates.none | No two rows have the same sound. | Keine zwei Zeilen haben denselben Ton.
why.same.file | the same file | dieselbe Datei
why.same.vector | the same vector | derselbe Vektor
why.near.vector | nearly the same | fast gleich
about.heads | Heads | Heads
about.heads.none | No head yet. Train one in Label, or run: embedx train indexes/NAME | Noch kein Head. Unter Labeln trainieren, oder: embedx train indexes/NAME
about.trained | trained on {n} rows by {label}, view {view} | trainiert mit {n} Zeilen nach {label}, Sicht {view}
about.chance | chance {x} | Zufall {x}
about.unscored | Not scored: too few groups to hold some back. | Nicht bewertet: zu wenige Gruppen, um einige zurückzuhalten.
figure.balanced_accuracy | balanced accuracy | balancierte Genauigkeit
figure.macro_auc | mean area under the ROC curve | mittlere Fläche unter der ROC-Kurve
about.recipe | Recipe | Rezept
about.recipe.tip | All that changes a vector. Fingerprint: {fingerprint} | Alles, was einen Vektor ändert. Fingerabdruck: {fingerprint}
about.copy | Copy the recipe | Rezept kopieren
about.versions | Made with | Gemacht mit
about.service | this server | dieser Server
`;
