"""Programs as an agent writes them, step by step: data work with the standard library.

Each step that makes something shows something, so that a wrong value is seen. They read and write
files of the folder that they run in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "sales": (
        "import csv\nimport io\nfrom collections import defaultdict",
        "text = '''city,amount,price\nUlm,3,2.50\nBonn,5,1.20\nUlm,4,2.75\nKiel,9,0.99\n'''\n"
        "rows = list(csv.DictReader(io.StringIO(text)))\nprint(len(rows))",
        "for row in rows:\n    row['amount'] = int(row['amount'])\n"
        "    row['price'] = float(row['price'])",
        "by_city = defaultdict(float)\nfor row in rows:\n"
        "    by_city[row['city']] += row['amount'] * row['price']",
        "best = sorted(by_city.items(), key=lambda pair: pair[1], reverse=True)\nprint(best[0][0])",
        "report = []\nfor city, value in best:\n    line = city + ': ' + str(round(value, 2))\n"
        "    report.append(line)\nprint('\\n'.join(report))",
    ),
    "inventory": (
        "import json\nfrom pathlib import Path",
        "stock = [\n    {'name': 'bolt', 'count': 40, 'price': 0.2},\n"
        "    {'name': 'nut', 'count': 75, 'price': 0.1},\n"
        "    {'name': 'gear', 'count': 3, 'price': 12.5},\n]",
        "Path('stock.json').write_text(json.dumps(stock))",
        "loaded = json.loads(Path('stock.json').read_text())\nprint(len(loaded))",
        "def worth(item, rate=1.0):\n    total = item['count'] * item['price']\n"
        "    return round(total * rate, 2)",
        "values = {item['name']: worth(item, rate=1.19) for item in loaded}\nprint(values)",
        "scarce = [item['name'] for item in loaded if item['count'] < 10]\n"
        "print(', '.join(scarce))",
        "message = 'stock is worth ' + str(sum(values.values()))\nprint(message)",
    ),
    "words": (
        "import re\nfrom collections import Counter",
        "text = 'the cat and the dog and the bird saw the cat'\nwords = re.findall(r'\\w+', text)",
        "counts = Counter(words)\nprint(counts['the'])",
        "common = counts.most_common(3)\nfor word, count in common:\n    print(word, count)",
        "lengths = [len(word) for word in words]\nprint(max(lengths), min(lengths))",
        "ordered = sorted(words)\nfirst, last = ordered[0], ordered[-1]\nprint(first, last)",
        "unique = sorted(set(words), key=len)\nprint(len(unique), unique[0].upper())",
    ),
    "bank": (
        "class Account:\n    def __init__(self, owner, balance=0):\n        self.owner = owner\n"
        "        self.balance = balance\n\n    def deposit(self, amount):\n"
        "        self.balance += amount\n        return self.balance\n\n"
        "    def label(self):\n        return self.owner.title() + ': ' + str(self.balance)",
        "accounts = [Account('ada', 100), Account('bob', balance=20), Account('eve')]",
        "for account in accounts:\n    account.deposit(50)\n    print(account.label())",
        "def transfer(source, target, amount):\n    if source.balance < amount:\n"
        "        return False\n    source.deposit(-amount)\n    target.deposit(amount)\n"
        "    return True",
        "done = transfer(accounts[0], accounts[1], 30)\nprint(done)",
        "balances = {account.owner: account.balance for account in accounts}\n"
        "print(balances['bob'])",
        "richest = max(accounts, key=lambda account: account.balance)\nprint(richest.label())",
    ),
    "fetch": (
        "import asyncio",
        "async def fetch(number, delay=0):\n    await asyncio.sleep(delay)\n"
        "    return {'id': number, 'score': number * 10}",
        "one = await fetch(1)\nprint(one['score'])",
        "many = await asyncio.gather(fetch(2), fetch(3), fetch(4))\nprint(len(many))",
        "scores = [each['score'] for each in many]\nprint(sum(scores))",
        "async def total(numbers):\n    found = 0\n    for number in numbers:\n"
        "        reply = await fetch(number)\n        found += reply['score']\n    return found",
        "result = await total([5, 6])\nprint(result + one['score'])",
    ),
    "log": (
        "from datetime import datetime, timedelta",
        "lines = [\n    '2024-05-01 10:00 INFO start',\n    '2024-05-01 10:05 WARN slow',\n"
        "    '2024-05-01 10:30 INFO done',\n]",
        "def parse(line):\n    day, clock, level, text = line.split()\n"
        "    when = datetime.strptime(day + ' ' + clock, '%Y-%m-%d %H:%M')\n"
        "    return {'when': when, 'level': level, 'text': text}",
        "events = [parse(line) for line in lines]\nprint(events[0]['text'])",
        "duration = events[-1]['when'] - events[0]['when']\nprint(duration.seconds // 60)",
        "levels = {}\nfor event in events:\n"
        "    levels.setdefault(event['level'], []).append(event['text'])\nprint(levels['INFO'])",
        "late = [event['text'] for event in events\n"
        "        if event['when'] > events[0]['when'] + timedelta(minutes=4)]\nprint(late)",
    ),
    "matrix": (
        "rows = [[1, 2, 3], [4, 5, 6], [7, 8, 10]]\nsize = len(rows)",
        "def transpose(table):\n    result = []\n    for column in range(len(table[0])):\n"
        "        result.append([row[column] for row in table])\n    return result",
        "turned = transpose(rows)\nprint(turned[0])",
        "def dot(left, right):\n    total = 0\n    for index in range(len(left)):\n"
        "        total += left[index] * right[index]\n    return total",
        "product = [[dot(row, column) for column in turned] for row in rows]\nprint(product[0][1])",
        "trace = sum(product[i][i] for i in range(size))\nprint(trace)",
        "flat = [value for row in product for value in row]\nlow, high = min(flat), max(flat)\n"
        "print(low, high)",
    ),
    "students": (
        "import statistics\nfrom dataclasses import dataclass",
        "@dataclass\nclass Student:\n    name: str\n    grades: list\n\n    def average(self):\n"
        "        return statistics.mean(self.grades)",
        "students = [\n    Student('Ann', [1.0, 2.0, 1.5]),\n    Student('Ben', [3.0, 2.5]),\n"
        "    Student('Cleo', grades=[4.0, 3.5, 5.0]),\n]",
        "averages = {student.name: student.average() for student in students}\n"
        "print(averages['Ann'])",
        "passed = [name for name, value in averages.items() if value < 4.0]\nprint(passed)",
        "def grade(value, limit=4.0):\n    if value < limit:\n        return 'pass'\n"
        "    else:\n        return 'fail'",
        "marks = {name: grade(value, limit=3.5) for name, value in averages.items()}\n"
        "print(marks['Cleo'])",
        "print('mean of all: ' + str(round(statistics.mean(averages.values()), 3)))",
    ),
    "config": (
        "import configparser",
        "lines = ['[server]', 'host = example.org', 'port = 8080', '[log]', 'level = info']\n"
        "with open('app.ini', 'w') as file:\n    file.write('\\n'.join(lines))",
        "parser = configparser.ConfigParser()\nwith open('app.ini') as file:\n"
        "    parser.read_file(file)\nprint(parser.sections())",
        "settings = {\n    'host': parser['server']['host'],\n"
        "    'port': int(parser['server']['port']),\n    'level': parser['log']['level'],\n}",
        "def address(host, port, secure=False):\n    scheme = 'https' if secure else 'http'\n"
        "    return f'{scheme}://{host}:{port}'",
        "url = address(settings['host'], settings['port'], secure=True)\nprint(url)",
        "next_port = settings['port'] + 1\nprint('next: ' + str(next_port))",
    ),
    "queue": (
        "import heapq\nfrom collections import deque",
        "tasks = [(3, 'sweep'), (1, 'cook'), (2, 'wash')]\nheap = list(tasks)\nheapq.heapify(heap)",
        "priority, task = heapq.heappop(heap)\nprint(priority, task)",
        "waiting = deque(name for level, name in sorted(tasks))\nwaiting.rotate(1)\n"
        "print(waiting[0])",
        "history = []\nwhile waiting:\n    current = waiting.popleft()\n"
        "    history.append(current)\nprint(history)",
        "steps = {name: position for position, name in enumerate(history)}\nprint(steps['wash'])",
        "for position, name in enumerate(history):\n    print(position + 1, name)",
    ),
    "graph": (
        "edges = [('a', 'b', 4), ('b', 'c', 3), ('a', 'c', 9), ('c', 'd', 1)]",
        "neighbours = {}\nfor source, target, weight in edges:\n"
        "    neighbours.setdefault(source, []).append((target, weight))\n"
        "    neighbours.setdefault(target, [])\nprint(len(neighbours))",
        "def reach(node, seen):\n    seen.add(node)\n    for target, weight in neighbours[node]:\n"
        "        if target not in seen:\n            reach(target, seen)\n    return seen",
        "reached = reach('a', set())\nprint(sorted(reached))",
        "def shortest(start, goal):\n    best = {start: 0}\n    for turn in range(len(edges)):\n"
        "        for source, target, weight in edges:\n            if source in best:\n"
        "                cost = best[source] + weight\n"
        "                best[target] = min(cost, best.get(target, cost))\n    return best[goal]",
        "distance = shortest('a', goal='d')\nprint('distance ' + str(distance))",
        "heavy = sorted(edges, key=lambda edge: edge[2], reverse=True)\nprint(heavy[0][0])",
    ),
    "orders": (
        "import itertools\nimport operator",
        "orders = [\n    {'customer': 'ada', 'total': '19.5', 'items': 3},\n"
        "    {'customer': 'bob', 'total': '7.25', 'items': 1},\n"
        "    {'customer': 'ada', 'total': '30.0', 'items': 5},\n]",
        "cleaned = [{**order, 'total': float(order['total'])} for order in orders]",
        "cleaned = sorted(cleaned, key=operator.itemgetter('customer'))\nprint(len(cleaned))",
        "summary = {}\nfor customer, group in itertools.groupby(cleaned, key=lambda o: "
        "o['customer']):\n    summary[customer] = sum(order['total'] for order in group)\n"
        "print(summary['ada'])",
        "def discount(total, items, share=0.1):\n    if items > 2:\n"
        "        return total * (1 - share)\n    return total",
        "prices = [discount(order['total'], order['items']) for order in cleaned]\n"
        "print(round(sum(prices), 2))",
        "labels = [order['customer'] + ' ' + str(order['items']) for order in cleaned]\n"
        "print(labels)",
    ),
    "text_files": (
        "import os\nfrom pathlib import Path",
        "folder = Path('notes')\nfolder.mkdir(exist_ok=True)\n"
        "(folder / 'monday.txt').write_text('buy milk\\ncall ada\\n')\n"
        "(folder / 'tuesday.txt').write_text('pay rent\\n')",
        "names = sorted(os.listdir('notes'))\nprint(names)",
        "monday = (folder / 'monday.txt').read_text().splitlines()\nprint(monday[0])",
        "with open('notes/tuesday.txt') as file:\n    tuesday = file.read().strip()\n"
        "print(tuesday.upper())",
        "todo = monday + [tuesday]\nfor number, entry in enumerate(todo, start=1):\n"
        "    print(str(number) + '. ' + entry)",
        "Path('todo.txt').write_text('\\n'.join(todo))\nprint(os.path.getsize('todo.txt'))",
    ),
    "fractions": (
        "from fractions import Fraction\nimport math",
        "parts = [Fraction(1, 3), Fraction(1, 4), Fraction(1, 6)]\ntotal = sum(parts)\n"
        "print(total)",
        "def factorial(n):\n    if n <= 1:\n        return 1\n    return n * factorial(n - 1)",
        "numbers = [factorial(n) for n in range(1, 6)]\nprint(numbers[-1])",
        "root = math.sqrt(numbers[-1])\nprint(math.floor(root))",
        "def scale(values, factor, offset=0):\n    result = []\n    for value in values:\n"
        "        result.append(value * factor + offset)\n    return result",
        "scaled = scale(numbers, 2, offset=1)\nprint(scaled)",
        "lowest, *middle, highest = scaled\nprint(lowest, highest, len(middle))",
    ),
    "weather": (
        "from statistics import mean, stdev",
        "days = ['mon', 'tue', 'wed', 'thu']\ntemperatures = [12.5, 14.0, 9.5, 11.0]",
        "table = dict(zip(days, temperatures))\nprint(table['wed'])",
        "average = mean(temperatures)\nspread = stdev(temperatures)\n"
        "print(round(average, 2), round(spread, 2))",
        "warm = []\nfor day, value in table.items():\n    if value > average:\n"
        "        warm.append(day)\nprint(warm)",
        "changes = []\nfor index in range(len(temperatures) - 1):\n"
        "    changes.append(temperatures[index + 1] - temperatures[index])\nprint(changes)",
        "text = 'mean ' + str(average) + ', warm: ' + ', '.join(warm)\nprint(text)",
    ),
    "shop": (
        "from enum import Enum",
        "class Kind(Enum):\n    FOOD = 'food'\n    TOOL = 'tool'\n\n\nclass Basket:\n"
        "    def __init__(self):\n        self.lines = []\n\n"
        "    def add(self, name, kind, price, count=1):\n"
        "        self.lines.append({'name': name, 'kind': kind, 'price': price, 'count': count})\n"
        "\n    def total(self):\n"
        "        return sum(line['price'] * line['count'] for line in self.lines)",
        "basket = Basket()\nbasket.add('apple', Kind.FOOD, 0.5, count=6)\n"
        "basket.add('hammer', Kind.TOOL, 15.0)\nprint(len(basket.lines))",
        "total = basket.total()\nprint('total: ' + str(total))",
        "food = [line['name'] for line in basket.lines if line['kind'] is Kind.FOOD]\nprint(food)",
        "def receipt(lines, width=20):\n    result = []\n    for line in lines:\n"
        "        price = str(line['price'])\n"
        "        result.append(line['name'].ljust(width - len(price)) + price)\n"
        "    return '\\n'.join(result)",
        "print(receipt(basket.lines, width=16))",
    ),
}

FRAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "frame_sales": (
        "import numpy as np\nimport pandas as pd",
        "sales = pd.DataFrame({'city': ['Ulm', 'Bonn', 'Ulm', 'Kiel'],\n"
        "                      'amount': [3, 5, 4, 9], 'price': [2.5, 1.2, 2.75, 0.99]})",
        "sales['value'] = sales['amount'] * sales['price']\nprint(sales['value'].sum())",
        "by_city = sales.groupby('city')['value'].sum()\nprint(by_city['Ulm'])",
        "best = sales.sort_values('value', ascending=False)\nprint(best['city'].iloc[0])",
        "large = sales[sales['amount'] > 3]\nprint(len(large), large['price'].mean())",
        "label = 'mean ' + str(round(sales['price'].mean(), 2))\nprint(label)",
    ),
    "frame_join": (
        "import pandas as pd",
        "people = pd.DataFrame({'key': [1, 2, 3], 'name': ['ada', 'bob', 'eve']})\n"
        "orders = pd.DataFrame({'key': [1, 1, 3], 'total': [10.0, 5.5, 7.0]})",
        "joined = people.merge(orders, on='key', how='left')\nprint(joined.shape)",
        "joined['total'] = joined['total'].fillna(0.0)\nprint(joined['total'].sum())",
        "def spent(frame, name):\n    chosen = frame[frame['name'] == name]\n"
        "    return chosen['total'].sum()",
        "ada = spent(joined, 'ada')\nprint('ada: ' + str(ada))",
        "names = joined['name'].unique().tolist()\nprint(len(names), names[0].upper())",
    ),
    "array": (
        "import numpy as np",
        "grid = np.arange(12).reshape(3, 4)\nweights = np.array([1.0, 2.0, 0.5, 1.5])",
        "weighted = grid * weights\nprint(weighted.sum())",
        "means = grid.mean(axis=0)\nprint(means[0])",
        "product = grid @ weights\nprint(product.tolist())",
        "centred = grid - means\nprint(np.abs(centred).max())",
        "rows, columns = grid.shape\nprint(rows, columns)",
        "text = 'largest ' + str(grid.max())\nprint(text)",
    ),
}
"""With numpy and pandas, where these are installed."""
