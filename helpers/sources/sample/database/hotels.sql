CREATE TABLE hotels (hotel_id INTEGER PRIMARY KEY, name TEXT, city TEXT, stars INTEGER);
CREATE TABLE rooms (room_id INTEGER PRIMARY KEY, hotel_id INTEGER, kind TEXT, price REAL, FOREIGN KEY (hotel_id) REFERENCES hotels(hotel_id));
CREATE TABLE guests (guest_id INTEGER PRIMARY KEY, name TEXT, country TEXT);
CREATE TABLE stays (stay_id INTEGER PRIMARY KEY, guest_id INTEGER, room_id INTEGER, arrived TEXT, paid REAL, FOREIGN KEY (guest_id) REFERENCES guests(guest_id), FOREIGN KEY (room_id) REFERENCES rooms(room_id));
INSERT INTO hotels VALUES
(1,'Hotel Aurora','Oslo',4),(2,'The Harbour Inn','Bergen',3),(3,'Casa Núñez','Sevilla',3),(4,'L''Étoile','Lyon',5),
(5,'Grand Meridian','Vienna',5),(6,'O''Malley''s Rest','Dublin',2),(7,'Villa Amico','Rome',4),(8,'Pension Müller','Vienna',2),
(9,'Skyline Lodge','Oslo',3),(10,'Palácio Azul','Lisbon',5),(11,'The Old Mill','Dublin',4),(12,'Hostal Sol','Sevilla',1),
(13,'Riverside Hotel','Lyon',3),(14,'Alfama House','Lisbon',2),(15,'Nordic Nest','Oslo',2);
INSERT INTO rooms VALUES
(1,1,'Single',118.50),(2,1,'Double',164.00),(3,1,'Suite',289.90),(4,2,'Double',97.25),(5,2,'Family',139.80),
(6,3,'Single',62.40),(7,3,'Double',88.75),(8,4,'Double',242.00),(9,4,'Suite',515.60),(10,5,'Single',175.30),
(11,5,'Double',228.45),(12,5,'Suite',468.20),(13,5,'Family',334.95),(14,6,'Single',49.90),(15,6,'Double',71.15),
(16,7,'Double',152.60),(17,7,'Suite',276.35),(18,8,'Single',54.20),(19,8,'Family',102.70),(20,9,'Double',109.85),
(21,9,'Family',148.10),(22,10,'Double',213.75),(23,10,'Suite',492.50),(24,11,'Double',134.40),(25,11,'Suite',258.05),
(26,12,'Single',31.60),(27,13,'Double',93.45),(28,13,'Single',76.95),(29,14,'Double',68.30),(30,14,'Single',45.55);
INSERT INTO guests VALUES
(1,'Zoë Hartmann','Germany'),(2,'Liam O''Brien','Ireland'),(3,'Søren Kjær','Denmark'),(4,'Inés Núñez','Spain'),
(5,'Gianni D''Angelo','Italy'),(6,'Fatima Zahra','France'),(7,'Jürgen Weiß','Germany'),(8,'Aisling Nolan','Ireland'),
(9,'Chloé Marchal','France'),(10,'Mikkel Bang','Denmark'),(11,'Rosa Iglesias','Spain'),(12,'Thomas Adeyemi','Ireland'),
(13,'Lena Vogel','Germany'),(14,'Paolo Ricci','Italy'),(15,'Anaïs Dubois','France'),(16,'Klaus Brandt','Germany'),
(17,'Marta Oliver','Spain'),(18,'Yuki Hansen','Denmark'),(19,'Noel D''Arcy','Ireland'),(20,'Petra Schulz','Germany');
INSERT INTO stays VALUES
(1,1,2,'2023-01-14',328.00),(2,2,8,'2023-01-29',726.00),(3,3,7,'2023-02-11',177.50),(4,4,11,'2023-02-25',456.90),
(5,5,22,'2023-03-10',641.25),(6,6,1,'2023-03-24',237.00),(7,7,16,'2023-04-07',305.20),(8,1,12,'2023-04-21',936.40),
(9,8,29,'2023-05-05',204.90),(10,9,24,'2023-05-19',268.80),(11,10,26,'2023-06-02',94.80),(12,11,5,'2023-06-16',419.40),
(13,2,17,'2023-06-30',552.70),(14,13,3,'2023-07-14',579.80),(15,14,9,'2023-07-21',1031.20),(16,4,14,'2023-07-28',149.70),
(17,15,23,'2023-08-04',1477.50),(18,1,20,'2023-08-11',219.70),(19,6,7,'2023-08-18',355.00),(20,16,25,'2023-09-01',774.15),
(21,5,10,'2023-09-15',350.60),(22,9,4,'2023-10-06',194.50),(23,12,15,'2023-10-27',142.30),(24,3,6,'2023-11-17',187.20),
(25,7,18,'2023-12-08',108.40),(26,13,11,'2023-12-29',913.80),(27,2,1,'2024-01-12',355.50),(28,8,22,'2024-01-26',427.50),
(29,1,8,'2024-02-09',484.00),(30,11,6,'2024-02-23',124.80),(31,17,19,'2024-03-08',410.80),(32,14,30,'2024-03-22',91.10),
(33,4,24,'2024-04-05',403.20),(34,15,2,'2024-04-19',656.00),(35,6,21,'2024-05-03',296.20),(36,10,13,'2024-05-17',1004.85),
(37,16,18,'2024-05-31',162.60),(38,9,16,'2024-06-14',457.80),(39,12,20,'2024-06-28',329.55),(40,3,9,'2024-07-12',1546.80),
(41,1,17,'2024-07-26',829.05),(42,5,29,'2024-08-09',NULL),(43,2,25,'2024-08-23',NULL),(44,7,3,'2024-09-06',NULL);
