// The search of an index: it shows the conversations that have all the words.
const texts = JSON.parse(document.getElementById('texts').textContent);
const rows = [...document.querySelectorAll('ol.list li')];
const none = document.querySelector('.none');
const field = document.querySelector('input');
field.hidden = false;
field.addEventListener('input', () => {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let left = 0;
  rows.forEach((row, n) => {
    row.hidden = !words.every(word => texts[n].includes(word));
    left += !row.hidden;
  });
  none.hidden = left > 0;
});
