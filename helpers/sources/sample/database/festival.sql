CREATE TABLE stages (stage_id INTEGER PRIMARY KEY, name TEXT, capacity INTEGER);
CREATE TABLE artists (artist_id INTEGER PRIMARY KEY, name TEXT, genre TEXT, country TEXT);
CREATE TABLE songs (song_id INTEGER PRIMARY KEY, title TEXT, seconds INTEGER, artist_id INTEGER, FOREIGN KEY (artist_id) REFERENCES artists(artist_id));
CREATE TABLE concerts (concert_id INTEGER PRIMARY KEY, artist_id INTEGER, stage_id INTEGER, held_on TEXT, fee REAL, FOREIGN KEY (artist_id) REFERENCES artists(artist_id), FOREIGN KEY (stage_id) REFERENCES stages(stage_id));
INSERT INTO stages VALUES
(1,'Main Stage',25000),(2,'River Stage',12000),(3,'Lakeside',8000),(4,'The Barn',1500),(5,'Forest Stage',3200),(6,'O''Hara''s Tent',600),
(7,'Sunset Deck',950),(8,'Café Noir',180),(9,'Moon Garden',2400),(10,'Chapel',320),(11,'Old Quarry',5600),(12,'Acoustic Corner',240),
(13,'Kids'' Meadow',1100);
INSERT INTO artists VALUES
(1,'The Paper Lanterns','Rock','Ireland'),(2,'Zoë Falk','Electronic','Sweden'),(3,'Los Hermanos Núñez','Folk','Spain'),
(4,'Amadou Keïta','Soul','France'),(5,'Blue Tram','Jazz','Germany'),(6,'Siobhán O''Dea','Folk','Ireland'),
(7,'DJ Kestrel','Electronic','Germany'),(8,'Copper Owls','Rock','Ireland'),(9,'Marisol Vega','Soul','Spain'),
(10,'Søren''s Shed','Rock','Sweden'),(11,'Nadia Haddad','Jazz','France'),(12,'Velvet Ferry','Soul','Ireland'),
(13,'Tuuli Aho','Folk','Sweden'),(14,'Haruka Mori','Jazz','Japan'),(15,'Neon Harvest','Electronic','Japan'),
(16,'Rue Sauvage','Rock','France'),(17,'Lena Großmann','Soul','Germany'),(18,'The Kettle Boys','Folk','Ireland'),
(19,'Pixel Monsoon','Electronic','Spain'),(20,'Quartet Étoile','Jazz','France'),(21,'Grey Heron','Rock','Sweden');
INSERT INTO songs VALUES
(1,'Paper Moonlight',214,1),(2,'Don''t Wake the River',251,1),(3,'Glass Signal',312,2),(4,'Night Bus North',287,2),(5,'Olivo Viejo',198,3),
(6,'Bamako Morning',336,4),(7,'Last Tram Home',402,5),(8,'Blue Minor',365,5),(9,'The Ferryman''s Girl',229,6),(10,'Rain on Clare',243,6),
(11,'Feather Static',421,7),(12,'Rust and Ruin',206,8),(13,'Corazón de Sal',233,9),(14,'It''s Late in Malmö',189,10),
(15,'Café at Midnight',347,11),(16,'Harbour Love',221,12),(17,'Slow Water',262,12),(18,'Birch Song',175,13),(19,'Kyoto Rain',318,14),
(20,'Neon Rain',274,15),(21,'Sauvage',193,16),(22,'Zuhause',258,17),(23,'Kettle''s On',167,18),(24,'Love in the Lane',182,18),
(25,'Monsoon Loop',456,19),(26,'Étoile du Nord',389,20),(27,'Sugar Lanterns',225,1);
INSERT INTO concerts VALUES
(1,1,1,'2023-07-06',18500.00),(2,2,2,'2023-07-06',9200.50),(3,3,5,'2023-07-06',2750.25),(4,5,8,'2023-07-06',1180.00),
(5,6,12,'2023-07-07',1425.75),(6,7,11,'2023-07-07',7600.00),(7,8,3,'2023-07-07',5350.40),(8,9,9,'2023-07-07',3900.00),
(9,10,4,'2023-07-08',2210.60),(10,11,10,'2023-07-08',1675.00),(11,12,3,'2023-07-08',6480.00),(12,1,2,'2023-07-08',12300.00),
(13,13,7,'2023-07-08',1050.30),(14,14,8,'2023-07-09',1990.80),(15,15,11,'2023-07-09',8150.00),(16,4,1,'2023-07-09',15750.00),
(17,18,6,'2023-07-09',880.45),(18,16,5,'2023-07-09',2640.00),(19,1,1,'2024-07-04',22400.00),(20,17,9,'2024-07-04',3325.90),
(21,3,12,'2024-07-04',1310.20),(22,11,8,'2024-07-04',1745.50),(23,2,1,'2024-07-05',14900.00),(24,6,10,'2024-07-05',1560.00),
(25,9,3,'2024-07-05',5825.65),(26,7,2,'2024-07-05',10450.00),(27,20,8,'2024-07-05',1235.00),(28,8,4,'2024-07-06',2480.00),
(29,12,2,'2024-07-06',9875.35),(30,1,6,'2024-07-06',NULL),(31,18,7,'2024-07-06',1120.70),(32,15,5,'2024-07-06',3050.00),
(33,4,3,'2024-07-07',6940.00),(34,10,11,'2024-07-07',4715.80),(35,2,9,'2024-07-07',4260.00),(36,6,12,'2024-07-07',NULL),
(37,14,10,'2024-07-07',1495.15);
