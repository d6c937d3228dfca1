CREATE TABLE owners (owner_id INTEGER PRIMARY KEY, name TEXT, city TEXT);
CREATE TABLE pets (pet_id INTEGER PRIMARY KEY, name TEXT, species TEXT, weight REAL, owner_id INTEGER, FOREIGN KEY (owner_id) REFERENCES owners(owner_id));
CREATE TABLE vets (vet_id INTEGER PRIMARY KEY, name TEXT, specialty TEXT);
CREATE TABLE visits (visit_id INTEGER PRIMARY KEY, pet_id INTEGER, vet_id INTEGER, visited_on TEXT, cost REAL, FOREIGN KEY (pet_id) REFERENCES pets(pet_id), FOREIGN KEY (vet_id) REFERENCES vets(vet_id));
INSERT INTO owners VALUES
(1,'Zoë Lindqvist','Cork'),(2,'Padraig O''Brien','Galway'),(3,'Søren Dahl','Dublin'),(4,'Lucía Núñez','Cork'),
(5,'Marco D''Angelo','Limerick'),(6,'Amina Yusuf','Dublin'),(7,'Hana Novák','Cork'),(8,'Tomás Kelly','Galway'),
(9,'Priya Raman','Dublin'),(10,'François Lefèvre','Limerick'),(11,'Niamh Byrne','Cork'),(12,'Kenji Mori','Dublin'),
(13,'Ewa Wójcik','Galway'),(14,'Declan O''Shea','Limerick'),(15,'Ingrid Solberg','Cork'),(16,'Baraka Mwangi','Tralee'),
(17,'Maeve Brennan','Cork'),(18,'Luis Ortega','Galway');
INSERT INTO pets VALUES
(1,'Bella','Dog',24.5,1),(2,'Ziggy','Cat',4.2,1),(3,'Rex','Dog',31.8,2),(4,'Mochi','Cat',3.9,12),(5,'Paddy','Dog',12.6,8),
(6,'Luna','Cat',5.1,4),(7,'Thumper','Rabbit',2.3,6),(8,'Señor Pico','Parrot',0.4,4),(9,'Biscuit','Dog',9.7,11),
(10,'Shadow','Cat',4.8,3),(11,'Olive','Tortoise',3.1,9),(12,'Max','Dog',28.4,5),(13,'Nala','Cat',NULL,7),
(14,'Clover','Rabbit',1.9,11),(15,'Freya','Dog',35.2,15),(16,'Kiki','Parrot',0.5,16),(17,'Dumpling','Cat',6.4,12),
(18,'Chief','Dog',19.3,14),(19,'Pépé','Rabbit',2.6,10),(20,'Sultan','Tortoise',NULL,6),(21,'Misty','Cat',4.5,13),
(22,'Rosie','Dog',7.8,8),(23,'Jack O''Lantern','Cat',5.6,11),(24,'Hugo','Dog',22.1,9),(25,'Pip','Parrot',NULL,2),
(26,'Bramble','Rabbit',2.0,15);
INSERT INTO vets VALUES
(1,'Aoife Murphy','Surgery'),(2,'Björn Hallgren','Dentistry'),(3,'Chiara Conti','General'),(4,'Dara O''Connell','General'),
(5,'Elena Petrova','Skin'),(6,'Farid Rahimi','Surgery'),(7,'Grace Mensah','General'),(8,'Henrik Møller','Exotics'),
(9,'Imogen Clarke','Dentistry'),(10,'João Tavares','General'),(11,'Keiko Sato','Exotics'),(12,'Liam Doyle','Skin');
INSERT INTO visits VALUES
(1,1,3,'2023-01-12',55.00),(2,3,1,'2023-01-27',420.50),(3,2,4,'2023-02-03',48.75),(4,6,5,'2023-02-18',82.40),
(5,7,8,'2023-03-02',64.30),(6,12,3,'2023-03-15',57.25),(7,10,7,'2023-03-29',44.90),(8,8,11,'2023-04-06',71.60),
(9,9,4,'2023-04-21',62.10),(10,5,6,'2023-05-04',389.95),(11,15,7,'2023-05-19',95.20),(12,11,8,'2023-06-01',78.45),
(13,4,2,'2023-06-14',152.80),(14,1,3,'2023-07-05',60.00),(15,17,10,'2023-07-22',53.35),(16,18,1,'2023-08-09',515.70),
(17,13,3,'2023-08-25',49.50),(18,21,5,'2023-09-11',88.15),(19,22,4,'2023-09-28',41.25),(20,3,7,'2023-10-10',66.80),
(21,14,11,'2023-10-24',58.60),(22,24,2,'2023-11-07',174.35),(23,6,3,'2023-11-23',52.70),(24,19,8,'2023-12-05',69.90),
(25,23,10,'2023-12-19',47.80),(26,12,1,'2024-01-08',602.25),(27,1,2,'2024-01-24',139.60),(28,9,5,'2024-02-06',91.45),
(29,15,6,'2024-02-20',447.00),(30,2,3,'2024-03-04',50.20),(31,5,4,'2024-03-18',59.15),(32,7,11,'2024-04-02',73.85),
(33,10,2,'2024-04-16',128.30),(34,17,3,'2024-04-30',56.65),(35,8,8,'2024-05-13',84.05),(36,18,7,'2024-05-27',NULL),
(37,3,3,'2024-06-11',63.40),(38,22,10,'2024-06-24',45.55),(39,21,4,'2024-07-09',54.10),(40,24,6,'2024-07-23',358.75),
(41,12,7,'2024-08-06',67.95),(42,1,4,'2024-08-20',NULL),(43,4,3,'2024-09-03',51.05),(44,14,8,'2024-09-17',NULL);
