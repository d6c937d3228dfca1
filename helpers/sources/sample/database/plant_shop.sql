CREATE TABLE suppliers (
  supplier_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  country TEXT NOT NULL
);

CREATE TABLE plants (
  plant_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  price REAL NOT NULL,
  supplier_id INTEGER,
  FOREIGN KEY (supplier_id) REFERENCES suppliers (supplier_id)
);

CREATE TABLE customers (
  customer_id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  city TEXT
);

CREATE TABLE sales (
  sale_id INTEGER PRIMARY KEY,
  plant_id INTEGER NOT NULL,
  customer_id INTEGER NOT NULL,
  quantity INTEGER NOT NULL,
  sold_on TEXT NOT NULL,
  FOREIGN KEY (plant_id) REFERENCES plants (plant_id),
  FOREIGN KEY (customer_id) REFERENCES customers (customer_id)
);

INSERT INTO suppliers (supplier_id, name, country) VALUES
(1, 'Groene Vingers', 'Netherlands'),
(2, 'Viveros Núñez', 'Spain'),
(3, 'O''Hara Nurseries', 'Ireland'),
(4, 'Gärtnerei Köhler', 'Germany'),
(5, 'Rift Valley Blooms', 'Kenya'),
(6, 'Tulp en Zoon', 'Netherlands'),
(7, 'Huerta del Sol', 'Spain'),
(8, 'Blumen Weiß', 'Germany'),
(9, 'Emerald Ferns', 'Ireland'),
(10, 'Nairobi Roots', 'Kenya'),
(11, 'Kas Nieuwland', 'Netherlands'),
(12, 'Casa Cactus', 'Spain');

INSERT INTO plants (plant_id, name, kind, price, supplier_id) VALUES
(1, 'Aloe Vera', 'Succulent', 8.95, 2),
(2, 'Boston Fern', 'Fern', 14.50, 9),
(3, 'Basil', 'Herb', 2.75, 1),
(4, 'Mother-in-Law''s Tongue', 'Succulent', 19.90, 5),
(5, 'Olive Tree', 'Tree', 64.00, 7),
(6, 'Red Tulip', 'Flower', 3.20, 6),
(7, 'White Orchid', 'Flower', 24.75, 1),
(8, 'Rosemary', 'Herb', 4.10, 2),
(9, 'Lemon Tree', 'Tree', 48.50, 7),
(10, 'Baby''s Breath', 'Flower', 6.30, 4),
(11, 'Jade Plant', 'Succulent', 11.25, 5),
(12, 'Maidenhair Fern', 'Fern', 12.80, 9),
(13, 'Thyme', 'Herb', 3.45, NULL),
(14, 'Dwarf Maple', 'Tree', 79.95, 4),
(15, 'Lavender', 'Flower', 7.60, 3),
(16, 'Golden Barrel Cactus', 'Succulent', 27.40, 2),
(17, 'Mint', 'Herb', 2.20, NULL),
(18, 'Peace Lily', 'Flower', 16.65, 1),
(19, 'Staghorn Fern', 'Fern', 33.10, 5),
(20, 'Bird''s Nest Fern', 'Fern', 18.35, 3),
(21, 'Fig Tree', 'Tree', 55.25, 7),
(22, 'Yellow Tulip', 'Flower', 3.60, 6);

INSERT INTO customers (customer_id, name, city) VALUES
(1, 'Zoë Hartmann', 'Berlin'),
(2, 'Sean O''Malley', 'Dublin'),
(3, 'Inés Núñez', 'Madrid'),
(4, 'Jonas Weber', 'Berlin'),
(5, 'Wanjiru Kamau', 'London'),
(6, 'Bianca D''Angelo', NULL),
(7, 'Henrik Søby', 'London'),
(8, 'Akiko Mori', 'Dublin'),
(9, 'Carlos Medina', 'Madrid'),
(10, 'Ruth Abbott', 'London'),
(11, 'Farid Rahimi', 'Berlin'),
(12, 'Clémence Roux', NULL),
(13, 'Piotr Zieliński', 'Dublin'),
(14, 'Grace Adu', 'London'),
(15, 'Maeve Byrne', 'Dublin'),
(16, 'Tom Becker', 'Berlin');

INSERT INTO sales (sale_id, plant_id, customer_id, quantity, sold_on) VALUES
(1, 1, 10, 6, '2023-09-24'),
(2, 17, 12, 1, '2023-10-10'),
(3, 1, 15, 2, '2023-10-16'),
(4, 1, 1, 2, '2023-10-17'),
(5, 3, 15, 5, '2023-10-18'),
(6, 8, 2, 4, '2023-10-24'),
(7, 3, 10, 5, '2023-11-12'),
(8, 10, 10, 6, '2023-11-13'),
(9, 7, 2, 1, '2023-11-15'),
(10, 3, 11, 2, '2023-11-16'),
(11, 15, 1, 8, '2023-11-20'),
(12, 1, 12, 6, '2023-11-26'),
(13, 21, 1, 1, '2023-11-28'),
(14, 10, 3, 6, '2023-12-01'),
(15, 15, 15, 6, '2023-12-02'),
(16, 6, 5, 1, '2023-12-04'),
(17, 15, 13, 4, '2023-12-05'),
(18, 1, 2, 12, '2023-12-06'),
(19, 16, 11, 1, '2023-12-17'),
(20, 6, 13, 1, '2023-12-19'),
(21, 16, 1, 1, '2023-12-20'),
(22, 12, 10, 1, '2023-12-28'),
(23, 21, 2, 2, '2023-12-31'),
(24, 22, 7, 2, '2024-01-04'),
(25, 5, 15, 3, '2024-01-10'),
(26, 2, 5, 1, '2024-01-14'),
(27, 5, 13, 1, '2024-01-17'),
(28, 1, 5, 4, '2024-01-23'),
(29, 1, 13, 4, '2024-01-30'),
(30, 22, 1, 3, '2024-02-08'),
(31, 10, 8, 4, '2024-02-10'),
(32, 17, 15, 6, '2024-02-14'),
(33, 3, 2, 5, '2024-02-15'),
(34, 8, 4, 1, '2024-02-16'),
(35, 2, 3, 1, '2024-02-21'),
(36, 22, 12, 2, '2024-02-22'),
(37, 9, 10, 2, '2024-02-23'),
(38, 17, 5, 1, '2024-02-27'),
(39, 22, 15, 3, '2024-02-28'),
(40, 6, 1, 4, '2024-03-06'),
(41, 11, 13, 2, '2024-03-08'),
(42, 6, 8, 8, '2024-03-10'),
(43, 12, 1, 3, '2024-03-26'),
(44, 22, 9, 8, '2024-03-31'),
(45, 13, 10, 1, '2024-04-03'),
(46, 3, 1, 6, '2024-04-05'),
(47, 17, 1, 8, '2024-04-06'),
(48, 11, 11, 2, '2024-04-19'),
(49, 2, 10, 1, '2024-04-28'),
(50, 6, 3, 5, '2024-04-29');
