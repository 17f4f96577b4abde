"""What the ORM scenario works with."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=50, unique=True)
    born = models.DateTimeField(null=True)

class Book(models.Model):
    title = models.TextField(db_index=True)
    details = models.JSONField(default=dict)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(price__gte=0), name="price_positive")]
