CREATE TABLE clubs (club_id INTEGER PRIMARY KEY, name TEXT, city TEXT, founded INTEGER);
CREATE TABLE players (player_id INTEGER PRIMARY KEY, name TEXT, position TEXT, born TEXT, club_id INTEGER, FOREIGN KEY (club_id) REFERENCES clubs(club_id));
CREATE TABLE games (game_id INTEGER PRIMARY KEY, stadium TEXT, played_on TEXT);
CREATE TABLE goals (goal_id INTEGER PRIMARY KEY, player_id INTEGER, game_id INTEGER, minute INTEGER, FOREIGN KEY (player_id) REFERENCES players(player_id), FOREIGN KEY (game_id) REFERENCES games(game_id));
INSERT INTO clubs VALUES
(1,'Harbour United','Porto',1911),(2,'Real Alameda','Sevilla',1923),(3,'SK Vltava','Prague',1908),(4,'Olympique Rhône','Lyon',1932),
(5,'FC Elbufer','Hamburg',1947),(6,'Sporting Tejo','Lisbon',1919),(7,'Calcio Vesuvio','Naples',1926),(8,'Lee Wanderers','Cork',1954),
(9,'Malmö Stars','Malmö',1961),(10,'Alfama Rangers','Lisbon',1975),(11,'Étoile Blanche','Lyon',1988),(12,'St Brendan''s','Cork',1899),
(13,'Union Douro','Porto',1940),(14,'Croix Athletic','Lyon',1997);
INSERT INTO players VALUES
(1,'Mateus Carvalho','Forward','1996-04-12',1),(2,'Tiago Brandão','Goalkeeper','1990-09-03',1),(3,'Álvaro Núñez','Midfielder','1998-01-25',2),
(4,'Iker Solís','Defender','1993-06-17',2),(5,'Tomáš Kučera','Forward','1995-11-08',3),(6,'Jiří Beneš','Midfielder','2001-02-19',3),
(7,'Yannick Mbala','Forward','1999-07-30',4),(8,'Théo Garnier','Defender','1997-03-11',4),(9,'Lukas Petersen','Midfielder','1992-12-05',5),
(10,'Emre Aydın','Forward','2000-05-21',5),(11,'Rui Falcão','Forward','1994-08-14',6),(12,'Nuno Esteves','Goalkeeper','1989-10-27',6),
(13,'Ciro D''Amato','Midfielder','1996-06-06',7),(14,'Luca De Rosa','Forward','2002-09-09',7),(15,'Conor O''Rourke','Forward','1997-12-23',8),
(16,'Sean Daly','Defender','1991-01-15',8),(17,'Søren Friis','Midfielder','1993-04-28',9),(18,'Elias Åkesson','Forward','2003-03-07',9),
(19,'Pedro Salgado','Defender','1998-10-19',10),(20,'Kwame Asante','Forward','1999-02-02',10),(21,'Hugo Marchand','Goalkeeper','1995-05-16',11),
(22,'Kofi Mensah','Midfielder','2000-08-31',4),(23,'Brendan O''Toole','Midfielder','1994-11-11',12),(24,'Hiro Tanaka','Forward','2001-06-24',12),
(25,'Rafael Pinto','Midfielder','1997-09-18',1),(26,'Dario Conti','Defender','1990-02-14',NULL),(27,'Oumar Diallo','Forward','1992-07-07',NULL),
(28,'Zoltán Varga','Defender','1996-12-30',1),(29,'Anton Berg','Goalkeeper','2004-01-09',5);
INSERT INTO games VALUES
(1,'Rhône Park','2023-08-19'),(2,'Queen''s Meadow','2023-08-26'),(3,'Vesuvio Arena','2023-09-02'),(4,'Northern Bowl','2023-09-16'),
(5,'Rhône Park','2023-09-30'),(6,'Estádio da Barra','2023-10-07'),(7,'Queen''s Meadow','2023-10-21'),(8,'Rhône Park','2023-11-04'),
(9,'Vesuvio Arena','2023-11-18'),(10,'Estádio da Barra','2023-12-02'),(11,'Northern Bowl','2024-02-10'),(12,'Rhône Park','2024-02-24'),
(13,'Queen''s Meadow','2024-03-09'),(14,'Vesuvio Arena','2024-03-23'),(15,'Rhône Park','2024-04-06'),(16,'Estádio da Barra','2024-04-20');
INSERT INTO goals VALUES
(1,7,1,12),(2,7,1,67),(3,1,1,81),(4,15,2,23),(5,24,2,38),(6,23,2,74),(7,14,3,9),(8,13,3,55),(9,5,3,90),(10,10,4,31),(11,18,4,44),
(12,17,4,88),(13,7,5,19),(14,22,5,63),(15,11,6,27),(16,1,6,49),(17,25,6,52),(18,20,6,85),(19,24,7,6),(20,15,7,71),(21,3,7,78),
(22,7,8,34),(23,10,8,40),(24,10,8,59),(25,14,9,16),(26,5,9,22),(27,14,9,69),(28,1,10,3),(29,11,10,46),(30,19,10,93),(31,7,12,11),
(32,22,12,58),(33,6,12,83),(34,15,13,29),(35,17,13,37),(36,8,13,64),(37,13,14,51),(38,14,14,76),(39,27,14,80),(40,7,15,2),(41,1,15,47),
(42,18,15,61);
